//! The same work for many inputs on all cores. The order of the results is that of the inputs, however it was shared.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Applies `work` to each input.
pub fn map<T: Sync, R: Send>(inputs: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if cores == 1 || inputs.len() < 2 {
        return inputs.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(inputs.len()));
    let take = || {
        while let Some((index, input)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            inputs.get(index).map(|input| (index, input))
        } {
            let result = work(input);
            done.lock().expect("no holder of the lock can panic").push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..cores.min(inputs.len()) {
            scope.spawn(take);
        }
    });
    let mut done = done.into_inner().expect("no holder of the lock can panic");
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_in_the_order_of_the_inputs() {
        let inputs: Vec<u64> = (0..1000).collect();
        let squares: Vec<u64> = inputs.iter().map(|n| n * n).collect();
        assert_eq!(super::map(&inputs, |n| n * n), squares);
        assert!(super::map(&[] as &[u64], |n| *n).is_empty());
    }
}
