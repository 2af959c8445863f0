//! Limits of the machine as these kernels can reach them: how fast the team reads memory, and how
//! many operations it gets through when nothing is read. Kernels are judged by these.

use crate::dot::Dot;
use crate::record::Probe;
use crate::simd::Vector;
use crate::team::Team;

/// Independent chains of a peak: enough to hide the latency of every instruction.
const CHAINS: usize = 12;
/// Bytes of one turn of the reading loop.
const READ_BYTES: usize = 128;

/// The kinds are numbered as in `src/kernels/wasm/probe.ts`.
pub unsafe fn probe<V: Dot>(op: &Probe, team: &Team) {
    let result = match op.kind {
        0 => read::<V>(op.memory, op.count, team),
        1 => narrow_peak::<V>(op.memory, op.count),
        2 => wide_peak::<V>(op.memory, op.count),
        _ => float_peak::<V>(op.memory, op.count),
    };
    // Stored, so that no loop is left out.
    *op.out.add(team.thread) = result;
}

/// Reads this thread's share of `count` bytes once, as products do: the first half beside the second.
unsafe fn read<V: Vector>(memory: *const u8, count: usize, team: &Team) -> f32 {
    let share = team.share(count / (2 * READ_BYTES), 1);
    let half = share.len() * READ_BYTES;
    let memory = memory.add(share.start * 2 * READ_BYTES);
    let mut sums = [V::load_int(memory.cast()); READ_BYTES / 16];
    for turn in 0..share.len() {
        for from in [memory.add(turn * READ_BYTES), memory.add(half + turn * READ_BYTES)] {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = V::add_int(*sum, V::load_int(from.add(16 * i).cast()));
            }
        }
    }
    let total = sums.into_iter().reduce(V::add_int);
    total.map_or(0.0, |sum| V::from_int(sum).lanes()[0])
}

/// `count` turns of multiply and add in 16-bit lanes: the inner loop of q4.
unsafe fn narrow_peak<V: Dot>(memory: *const u8, count: usize) -> f32 {
    let constants = V::constants();
    let codes = V::low_nibbles(V::load_bytes(memory), constants);
    let mut sums = [V::narrow_start(memory.cast()); CHAINS];
    for _ in 0..count {
        for sum in &mut sums {
            *sum = V::narrow_add(*sum, V::narrow_bytes(*sum), codes);
        }
    }
    sums.into_iter().map(|sum| V::narrow_total(sum, constants).lanes()[0]).sum()
}

/// `count` turns of multiply, widen and add: the inner loop of q8.
unsafe fn wide_peak<V: Dot>(memory: *const u8, count: usize) -> f32 {
    let constants = V::constants();
    let codes = V::low_nibbles(V::load_bytes(memory), constants);
    let mut sums = [V::wide_start(memory.cast()); CHAINS];
    for _ in 0..count {
        for sum in &mut sums {
            *sum = V::wide_add(*sum, V::wide_bytes(*sum), codes, constants);
        }
    }
    sums.into_iter().map(|sum| V::wide_total(sum).lanes()[0]).sum()
}

/// `count` turns of multiply-add in float32.
unsafe fn float_peak<V: Vector>(memory: *const u8, count: usize) -> f32 {
    let x = V::load(memory.cast());
    let mut sums: [V; CHAINS] = std::array::from_fn(|i| V::splat(i as f32));
    for _ in 0..count {
        for sum in &mut sums {
            *sum = sum.madd(x, x);
        }
    }
    sums.into_iter().map(|sum| sum.lanes()[0]).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::scalar::Scalar;
    use crate::team::tests::with_team;

    #[test]
    fn every_probe_ends_and_reading_reads_everything() {
        let memory: Vec<i32> = vec![1; 32 * 1000];
        for kind in 0..4 {
            let mut out = [f32::NAN; 3];
            let at = out.as_mut_ptr() as usize;
            with_team(3, |team| unsafe {
                let count = if kind == 0 { memory.len() * 4 } else { 10 };
                let (memory, out) = (memory.as_ptr().cast(), at as *mut f32);
                probe::<Scalar>(&Probe { kind, memory, count, out }, team);
            });
            assert!(out.iter().all(|value| value.is_finite()), "{out:?}");
            // Eight vectors a turn, and what the sums started with.
            if kind == 0 {
                assert_eq!(out.iter().sum::<f32>(), 8.0 * 1000.0 + 3.0 * 8.0);
            }
        }
    }
}
