//! The thread team: how an op is divided, and how threads meet between ops.

use std::ops::Range;
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

/// One atomic word on its own cache line.
#[repr(C, align(64))]
pub struct Word(pub AtomicI32);

/// A word that threads wait for, on its own cache line.
#[repr(C, align(64))]
pub struct Gate {
    pub word: AtomicI32,
    /// Threads that may be asleep at it. Whoever changes the word calls the runtime only for these:
    /// that call takes longer than the whole barrier.
    pub sleepers: AtomicI32,
}

/// Memory that the team and the main thread share. The layout is mirrored in `control.ts`.
#[repr(C)]
pub struct Control {
    /// Raised by the main thread to start a program.
    pub epoch: Word,
    /// The last epoch whose program is complete.
    pub done: Word,
    /// Threads that wait at the barrier.
    pub arrived: Word,
    /// Raised when all have arrived.
    pub generation: Gate,
    /// Non-zero: leave as soon as possible.
    pub stop: Word,
    /// Why a kernel refused its input: a `Fault` as number; 0 is none.
    pub fault: AtomicI32,
    pub fault_value: AtomicI32,
    /// The program of the current epoch, as 64-bit words.
    pub program: u64,
    pub record_count: u64,
    /// Loads at the barrier before a thread goes to sleep.
    pub spins: u64,
}

/// Data that would make a kernel read or write outside its tensors. Mirrored in `control.ts`.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(i32)]
pub enum Fault {
    Opcode = 1,
    RowIndex = 2,
    Position = 3,
    Slot = 4,
    Page = 5,
    Expert = 6,
    Token = 7,
    Stopped = 8,
}

/// One thread's view of its team.
#[derive(Clone, Copy)]
pub struct Team<'a> {
    pub thread: usize,
    pub threads: usize,
    pub control: &'a Control,
}

impl Team<'_> {
    /// This thread's contiguous share of `count` items, cut at multiples of `grain`.
    pub fn share(&self, count: usize, grain: usize) -> Range<usize> {
        let grains = count.div_ceil(grain);
        let at = |thread: usize| (grains * thread / self.threads * grain).min(count);
        at(self.thread)..at(self.thread + 1)
    }

    /// Waits until every thread of the team has come here.
    pub fn meet(&self) {
        if self.threads == 1 {
            return;
        }
        let Control { arrived, generation, stop, spins, .. } = self.control;
        let current = generation.word.load(SeqCst);
        if arrived.0.fetch_add(1, SeqCst) as usize == self.threads - 1 {
            arrived.0.store(0, SeqCst);
            generation.word.fetch_add(1, SeqCst);
            // A thread counts itself before it looks at the word for the last time: either it is
            // seen here, or it sees the new word there.
            if generation.sleepers.load(SeqCst) != 0 {
                wake_all(&generation.word);
            }
        } else if !changes_soon(&generation.word, current, *spins) {
            generation.sleepers.fetch_add(1, SeqCst);
            wait_while(&generation.word, current);
            generation.sleepers.fetch_sub(1, SeqCst);
        }
        if stop.0.load(SeqCst) != 0 {
            self.refuse(Fault::Stopped, 0);
        }
    }

    /// Records why and ends this thread; the main thread then ends the team.
    pub fn refuse(&self, fault: Fault, value: i32) -> ! {
        if self.control.fault.compare_exchange(0, fault as i32, SeqCst, SeqCst).is_ok() {
            self.control.fault_value.store(value, SeqCst);
        }
        panic!("kernel refused its input: {fault:?} {value}");
    }

    /// `value` as an index below `bound`, or a refusal.
    pub fn check(&self, value: i32, bound: usize, fault: Fault) -> usize {
        if value < 0 || value as usize >= bound {
            self.refuse(fault, value);
        }
        value as usize
    }
}

/// Whether `word` differs from `value` within so many looks: the others are usually close.
fn changes_soon(word: &AtomicI32, value: i32, spins: u64) -> bool {
    for _ in 0..spins {
        if word.load(SeqCst) != value {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// Sleeps until `word` differs from `value`.
pub fn wait_while(word: &AtomicI32, value: i32) {
    while word.load(SeqCst) == value {
        sleep(word, value);
    }
}

#[cfg(all(target_family = "wasm", target_feature = "atomics"))]
fn sleep(word: &AtomicI32, value: i32) {
    // SAFETY: the word lives in shared memory for the whole call.
    unsafe { core::arch::wasm::memory_atomic_wait32(word.as_ptr(), value, -1) };
}

#[cfg(all(target_family = "wasm", target_feature = "atomics"))]
pub fn wake_all(word: &AtomicI32) {
    // SAFETY: as above.
    unsafe { core::arch::wasm::memory_atomic_notify(word.as_ptr(), u32::MAX) };
}

#[cfg(not(all(target_family = "wasm", target_feature = "atomics")))]
fn sleep(_: &AtomicI32, _: i32) {
    std::thread::yield_now();
}

#[cfg(not(all(target_family = "wasm", target_feature = "atomics")))]
pub fn wake_all(_: &AtomicI32) {}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn fresh_control() -> Control {
        let word = || Word(AtomicI32::new(0));
        Control {
            epoch: word(),
            done: word(),
            arrived: word(),
            generation: Gate { word: AtomicI32::new(0), sleepers: AtomicI32::new(0) },
            stop: word(),
            fault: AtomicI32::new(0),
            fault_value: AtomicI32::new(0),
            program: 0,
            record_count: 0,
            spins: 100,
        }
    }

    /// Runs `work` on a team of real threads.
    pub fn with_team(threads: usize, work: impl Fn(&Team) + Sync) {
        let control = fresh_control();
        std::thread::scope(|scope| {
            for thread in 0..threads {
                let (control, work) = (&control, &work);
                scope.spawn(move || work(&Team { thread, threads, control }));
            }
        });
    }

    #[test]
    fn shares_cover_everything_once() {
        for (count, grain, threads) in [(0, 8, 3), (1, 8, 3), (17, 8, 2), (100, 1, 7), (64, 4, 5)] {
            let control = fresh_control();
            let mut next = 0;
            for thread in 0..threads {
                let share = Team { thread, threads, control: &control }.share(count, grain);
                assert_eq!(share.start, next);
                assert!(share.start.is_multiple_of(grain) || share.is_empty());
                next = share.end;
            }
            assert_eq!(next, count);
        }
    }

    #[test]
    fn nobody_leaves_a_meeting_early() {
        let counter = AtomicI32::new(0);
        with_team(3, |team| {
            for round in 1..=500 {
                counter.fetch_add(1, SeqCst);
                team.meet();
                assert_eq!(counter.load(SeqCst), 3 * round);
                team.meet();
            }
        });
    }
}
