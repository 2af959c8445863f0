//! The ops of training: gradients, the loss head, the optimiser. Work is split over outputs and
//! never over a sum, and sums have one order, so results do not depend on the number of threads.

mod attention;
mod columns;
mod elementwise;
mod experts;
mod gemm;
mod head;
mod norms;
mod optimizer;
mod products;
pub mod record;

use crate::simd::Vector;
use crate::team::Team;
use record::*;

/// Runs a record of training; false when the opcode is none.
///
/// # Safety
/// As for `crate::program::run`.
pub unsafe fn execute<V: Vector>(opcode: u64, record: *const u64, team: &Team) -> bool {
    match opcode {
        Fill::OPCODE => elementwise::fill::<V>(&Fill::read(record), team),
        Accumulate::OPCODE => elementwise::accumulate::<V>(&Accumulate::read(record), team),
        ColumnSums::OPCODE => columns::column_sums::<V>(&ColumnSums::read(record), team),
        MatmulAdd::OPCODE => products::matmul_add::<V>(&MatmulAdd::read(record), team),
        MatmulInputGrad::OPCODE => {
            products::matmul_input_grad::<V>(&MatmulInputGrad::read(record), team);
        }
        MatmulWeightGrad::OPCODE => {
            products::matmul_weight_grad::<V>(&MatmulWeightGrad::read(record), team);
        }
        ExpertInputGrad::OPCODE => {
            products::expert_input_grad::<V>(&ExpertInputGrad::read(record), team);
        }
        ExpertWeightGrad::OPCODE => {
            products::expert_weight_grad::<V>(&ExpertWeightGrad::read(record), team);
        }
        SumPairs::OPCODE => experts::sum_pairs::<V>(&SumPairs::read(record), team),
        CombineRowsGrad::OPCODE => {
            experts::combine_rows_grad::<V>(&CombineRowsGrad::read(record), team);
        }
        GateTopKGrad::OPCODE => experts::gate_top_k_grad(&GateTopKGrad::read(record), team),
        RouterStatistics::OPCODE => {
            experts::router_statistics(&RouterStatistics::read(record), team);
        }
        RouterLossGrad::OPCODE => experts::router_loss_grad(&RouterLossGrad::read(record), team),
        NormGrad::OPCODE => norms::norm_grad::<V>(&NormGrad::read(record), team),
        RopeGrad::OPCODE => elementwise::rope_grad::<V>(&RopeGrad::read(record), team),
        PackedAttention::OPCODE => {
            attention::packed_attention::<V>(&PackedAttention::read(record), team);
        }
        PackedAttentionGrad::OPCODE => {
            attention::packed_attention_grad::<V>(&PackedAttentionGrad::read(record), team);
        }
        SwigluGrad::OPCODE => elementwise::swiglu_grad::<V>(&SwigluGrad::read(record), team),
        GeluGrad::OPCODE => elementwise::gelu_grad::<V>(&GeluGrad::read(record), team),
        GatherRowsGrad::OPCODE => {
            elementwise::gather_rows_grad(&GatherRowsGrad::read(record), team);
        }
        CopyRowsGrad::OPCODE => elementwise::copy_rows_grad(&CopyRowsGrad::read(record), team),
        ZeroRows::OPCODE => elementwise::zero_rows(&ZeroRows::read(record), team),
        Head::OPCODE => head::head::<V>(&Head::read(record), team),
        SquareSums::OPCODE => optimizer::square_sums(&SquareSums::read(record), team),
        ClipFactor::OPCODE => optimizer::clip_factor(&ClipFactor::read(record), team),
        AdamW::OPCODE => optimizer::adam_w::<V>(&AdamW::read(record), team),
        _ => return false,
    }
    true
}
