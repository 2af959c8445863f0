//! Compute kernels of Flotilla's WebAssembly backend: exports only. Everything that a model step
//! computes is a record in a command buffer (`record.rs`), executed by `program.rs`.
#![cfg_attr(
    all(target_family = "wasm", target_feature = "atomics"),
    feature(stdarch_wasm_atomic_wait)
)]
// `core::arch::wasm`: the intrinsics of both address widths.
#![cfg_attr(target_family = "wasm", feature(simd_wasm64, asm_experimental_arch))]
// Kernels take raw pointers from records; `program::run` states the one safety contract.
#![allow(clippy::missing_safety_doc)]
// A register tile is walked by the same index in several arrays.
#![allow(clippy::needless_range_loop)]

mod attention;
mod dot;
mod elementwise;
mod experts;
mod half;
mod kv;
mod math;
mod matmul;
mod norm;
mod pack;
mod patchify;
mod probe;
mod program;
mod quantize;
mod record;
mod rope;
mod sample;
mod simd;
mod team;
#[cfg(test)]
mod testing;
#[cfg(feature = "train")]
mod train;

use simd::{Active, Vector};
use team::{Control, Team};
use wasm_bindgen::prelude::wasm_bindgen;

/// Hash of the record table; the host must have the same.
#[wasm_bindgen]
pub fn table_hash() -> u32 {
    #[cfg(feature = "train")]
    return record::TABLE_HASH ^ train::record::TABLE_HASH;
    #[cfg(not(feature = "train"))]
    record::TABLE_HASH
}

/// Whether multiply-add rounds once on this machine: part of the numeric class.
#[wasm_bindgen]
pub fn madd_is_fused() -> bool {
    // (1 + e)^2 - (1 + 2e) is e^2 when fused, and 0 when the product is rounded first.
    let x = std::hint::black_box(1.0 + f32::EPSILON);
    let negated = std::hint::black_box(-(1.0 + 2.0 * f32::EPSILON));
    let v = Active::splat(x).madd(Active::splat(x), Active::splat(negated));
    v.lanes()[0] != 0.0
}

/// Runs a program on the calling thread alone. `control` is the address of a control block, and
/// `program` of `record_count` records.
#[wasm_bindgen]
pub fn run_alone(control: usize, program: usize, record_count: usize) {
    // SAFETY: the host passes addresses of its own blocks in this memory.
    unsafe {
        let control = &*(control as *const Control);
        let team = Team { thread: 0, threads: 1, control };
        program::run::<Active>(program as *const u64, record_count, &team);
    }
}

/// Serves programs as thread `thread` of `threads` until told to stop.
#[wasm_bindgen]
pub fn work(control: usize, thread: usize, threads: usize) {
    // SAFETY: as above.
    unsafe { program::work::<Active>(control as *const Control, thread, threads) }
}
