//! The records of training, after those of `crate::record`. Mirrored in
//! `src/kernels/wasm/training_records.ts`.

crate::record::records! {
    101 Fill { count: usize, value: f32, out: *mut f32 }
    102 Accumulate { count: usize, input: *const f32, out: *mut f32 }
    103 ColumnSums {
        rows: usize, width: usize, input: *const f32, accumulate: usize, out: *mut f32,
    }
    104 MatmulAdd {
        rows: usize, columns: usize, width: usize, input: *const f32, weight: *const f32,
        scale: f32, out: *mut f32, scratch: *mut f32,
    }
    105 MatmulInputGrad {
        rows: usize, columns: usize, width: usize, out_grad: *const f32, weight: *const f32,
        scale: f32, accumulate: usize, input_grad: *mut f32, scratch: *mut f32,
    }
    106 MatmulWeightGrad {
        rows: usize, columns: usize, width: usize, input: *const f32, out_grad: *const f32,
        scale: f32, accumulate: usize, weight_grad: *mut f32, scratch: *mut f32,
    }
    107 ExpertInputGrad {
        places: usize, columns: usize, width: usize, experts: usize, expert_floats: usize,
        out_grad: *const f32, weight: *const f32, expert_start: *const i32,
        input_grad: *mut f32, scratch: *mut f32,
    }
    108 ExpertWeightGrad {
        places: usize, columns: usize, width: usize, experts: usize, expert_floats: usize,
        input: *const f32, input_rows: usize, out_grad: *const f32, expert_start: *const i32,
        grouped_pair: *const i32, choices: usize, accumulate: usize, weight_grad: *mut f32,
        scratch: *mut f32,
    }
    109 SumPairs {
        rows: usize, choices: usize, width: usize, input: *const f32, pair_place: *const i32,
        accumulate: usize, out: *mut f32,
    }
    110 CombineRowsGrad {
        rows: usize, choices: usize, width: usize, out_grad: *const f32, input: *const f32,
        pair_place: *const i32, expert_weight: *const f32, input_grad: *mut f32,
        weight_grad: *mut f32,
    }
    111 GateTopKGrad {
        rows: usize, experts: usize, choices: usize, normalize: usize, logits: *const f32,
        expert_index: *const i32, expert_weight: *const f32, weight_grad: *const f32,
        accumulate: usize, logits_grad: *mut f32,
    }
    112 RouterStatistics {
        rows: usize, experts: usize, choices: usize, logits: *const f32,
        expert_index: *const i32, row_weight: *const f32, statistics: *mut f32,
    }
    113 RouterLossGrad {
        rows: usize, experts: usize, logits: *const f32, row_weight: *const f32,
        expert_scale: *const f32, z_scale: f32, accumulate: usize, logits_grad: *mut f32,
    }
    114 NormGrad {
        rows: usize, width: usize, centred: usize, input: *const f32, weight: *const f32,
        epsilon: f32, out_grad: *const f32, input_grad: *mut f32, input_accumulate: usize,
        weight_grad: *mut f32, weight_accumulate: usize, bias_grad: *mut f32,
        bias_accumulate: usize, scratch: *mut f32,
    }
    115 RopeGrad {
        rows: usize, width: usize, head_width: usize, out_grad: *const f32,
        position: *const i32, table: *const f32, positions: usize, accumulate: usize,
        input_grad: *mut f32,
    }
    116 PackedAttention {
        rows: usize, segment_rows: usize, row_length: *const i32, heads: usize, kv_heads: usize,
        head_width: usize, scale: f32, query: *const f32, key: *const f32, value: *const f32,
        out: *mut f32, log_sum: *mut f32, scratch: *mut f32, thread_floats: usize,
    }
    117 PackedAttentionGrad {
        rows: usize, segment_rows: usize, row_length: *const i32, heads: usize, kv_heads: usize,
        head_width: usize, scale: f32, query: *const f32, key: *const f32, value: *const f32,
        out: *const f32, log_sum: *const f32, out_grad: *const f32, query_grad: *mut f32,
        key_grad: *mut f32, value_grad: *mut f32, scratch: *mut f32, thread_floats: usize,
    }
    118 SwigluGrad {
        count: usize, gate: *const f32, up: *const f32, out_grad: *const f32,
        gate_grad: *mut f32, up_grad: *mut f32,
    }
    119 GeluGrad {
        count: usize, input: *const f32, out_grad: *const f32, accumulate: usize,
        input_grad: *mut f32,
    }
    120 GatherRowsGrad {
        rows: usize, width: usize, table_rows: usize, out_grad: *const f32,
        row_index: *const i32, table_grad: *mut f32,
    }
    121 CopyRowsGrad {
        rows: usize, width: usize, out_grad: *const f32, out_row: *const i32, out_rows: usize,
        source_grad: *mut f32, source_row: *const i32, source_rows: usize,
    }
    122 ZeroRows {
        rows: usize, width: usize, row: *const i32, out: *mut f32, out_rows: usize,
    }
    123 Head {
        rows: usize, columns: usize, vocabulary: usize, input: *const f32, weight: *const f32,
        target: *const i32, coefficient: *const f32, logprob: *mut f32, entropy: *mut f32,
        input_grad: *mut f32, input_accumulate: usize, weight_grad: *mut f32,
        weight_accumulate: usize, logits: *mut f32, scratch: *mut f32,
    }
    124 SquareSums { count: usize, input: *const f32, partial: *mut f32 }
    125 ClipFactor { count: usize, partial: *const f32, norm_max: f32, norm: *mut f32 }
    126 AdamW {
        count: usize, weights: *mut f32, gradient: *const f32, first: *mut f32,
        second: *mut f32, norm: *const f32, keep: f32, rate: f32, beta1: f32, rest1: f32,
        beta2: f32, rest2: f32, root_scale: f32, epsilon: f32,
    }
}
