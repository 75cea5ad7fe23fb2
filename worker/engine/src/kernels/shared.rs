//! Work that is shared by the threads of the pool that it is done in.

use rayon::prelude::*;

/// Multiplications from which on another thread is worth the word to it, if it is awake.
const FOR_THREADS: usize = 1 << 16;

/// Lets `part` fill `out`, all at once or, where it takes so many `multiplications`, by parts. `part` is told the place of the
/// first of `unit` numbers that it is given; a unit is never divided.
pub(super) fn share(
    out: &mut [f32],
    unit: usize,
    multiplications: usize,
    part: impl Fn(usize, &mut [f32]) + Sync,
) {
    // Asking starts the pool of the process where there is none.
    let threads = if multiplications < FOR_THREADS { 1 } else { rayon::current_num_threads() };
    if threads == 1 {
        return part(0, out);
    }
    let units = out.len().div_ceil(unit).div_ceil(threads).max(1);
    out.par_chunks_mut(units * unit)
        .enumerate()
        .for_each(|(index, out)| part(index * units * unit, out));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_filled_once_and_knows_its_place() {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            for (len, unit) in [(0, 2), (1, 3), (7, 2), (64, 4), (10, 100)] {
                for work in [0, usize::MAX] {
                    let mut out = vec![0.0; len];
                    let fill = |first: usize, out: &mut [f32]| {
                        assert!(first.is_multiple_of(unit));
                        for (place, number) in (first..).zip(out) {
                            *number += f32::from(u16::try_from(place).unwrap()) + 1.0;
                        }
                    };
                    pool.install(|| share(&mut out, unit, work, fill));
                    let expected = (1..=u16::try_from(len).unwrap()).map(f32::from);
                    assert_eq!(out, expected.collect::<Vec<_>>());
                }
            }
        }
    }
}
