//! The executor: every thread walks the same records and takes its share of each.

use crate::dot::Dot;
use crate::record::*;
use crate::team::{wait_while, wake_all, Control, Fault, Team};
use crate::{
    attention, elementwise, experts, kv, matmul, norm, pack, patchify, probe, rope, sample,
};
use std::sync::atomic::Ordering::SeqCst;

/// Runs `count` records in order; all threads of the team call this with the same program.
///
/// # Safety
/// The records are whole and their pointers are valid for the shapes they state.
pub unsafe fn run<V: Dot>(program: *const u64, count: usize, team: &Team) {
    for index in 0..count {
        let record = program.add(index * (RECORD_BYTES / 8));
        let previous = (index > 0).then(|| record.sub(RECORD_BYTES / 8));
        execute::<V>(record, previous, team);
        team.meet();
    }
}

unsafe fn execute<V: Dot>(record: *const u64, previous: Option<*const u64>, team: &Team) {
    let has_rows = || previous.is_some_and(|previous| matmul::finds_rows(previous, record));
    match record.read() {
        PackRows::OPCODE => pack::pack_rows::<V>(&PackRows::read(record), team),
        GatherRows::OPCODE => pack::gather_rows(&GatherRows::read(record), team),
        CopyRows::OPCODE => elementwise::copy_rows(&CopyRows::read(record), team),
        Matmul::OPCODE => matmul::matmul::<V>(&Matmul::read(record), has_rows(), team),
        ExpertMatmul::OPCODE => {
            matmul::expert_matmul::<V>(&ExpertMatmul::read(record), has_rows(), team);
        }
        RmsNorm::OPCODE => norm::rms_norm::<V>(&RmsNorm::read(record), team),
        LayerNorm::OPCODE => norm::layer_norm::<V>(&LayerNorm::read(record), team),
        Rope::OPCODE => rope::rope::<V>(&Rope::read(record), team),
        WriteKv::OPCODE => kv::write_kv(&WriteKv::read(record), team),
        Attention::OPCODE => attention::paged::attention::<V>(&Attention::read(record), team),
        SegmentAttention::OPCODE => {
            attention::segment::segment_attention::<V>(&SegmentAttention::read(record), team);
        }
        Swiglu::OPCODE => elementwise::swiglu::<V>(&Swiglu::read(record), team),
        Gelu::OPCODE => elementwise::gelu::<V>(&Gelu::read(record), team),
        Add::OPCODE => elementwise::add::<V>(&Add::read(record), team),
        GateTopK::OPCODE => experts::gate_top_k(&GateTopK::read(record), team),
        GroupByExpert::OPCODE => experts::group_by_expert(&GroupByExpert::read(record), team),
        CombineRows::OPCODE => experts::combine_rows::<V>(&CombineRows::read(record), team),
        Patchify::OPCODE => patchify::patchify(&Patchify::read(record), team),
        Sample::OPCODE => sample::sample::<V>(&Sample::read(record), team),
        Probe::OPCODE => probe::probe::<V>(&Probe::read(record), team),
        #[cfg(feature = "train")]
        opcode if crate::train::execute::<V>(opcode, record, team) => {}
        unknown => team.refuse(Fault::Opcode, unknown as i32),
    }
}

/// The life of a team thread: sleep until the epoch rises, run its program, until told to stop.
///
/// # Safety
/// As for `run`, for every program that the main thread publishes in `control`.
pub unsafe fn work<V: Dot>(control: *const Control, thread: usize, threads: usize) {
    let team = Team { thread, threads, control: &*control };
    let mut seen = 0;
    loop {
        wait_while(&team.control.epoch.0, seen);
        if team.control.stop.0.load(SeqCst) != 0 {
            return;
        }
        seen = team.control.epoch.0.load(SeqCst);
        // The main thread writes these between epochs, when no team thread is inside a program.
        let program = (&raw const (*control).program).read_volatile() as usize as *const u64;
        let count = (&raw const (*control).record_count).read_volatile() as usize;
        run::<V>(program, count, &team);
        if thread == 0 {
            team.control.done.0.store(seen, SeqCst);
            wake_all(&team.control.done.0);
        }
    }
}
