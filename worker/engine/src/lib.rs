//! The engine process: candle models behind the Engine trait.
