//! The record table: opcode, name and slots of every op. Mirrored in `src/kernels/wasm/records.ts`;
//! both sides hash the table, and a backend opens only when the hashes agree.

/// Bytes of one record: an opcode and up to 31 slots of eight bytes.
pub const RECORD_BYTES: usize = 256;

/// A value that fits a slot.
pub trait Slot: Copy {
    /// The mark of its kind in the table's hash.
    const KIND: u8;
    fn from_slot(bits: u64) -> Self;
}

impl Slot for usize {
    const KIND: u8 = b'i';
    fn from_slot(bits: u64) -> Self {
        bits as usize
    }
}

impl Slot for f32 {
    const KIND: u8 = b'f';
    fn from_slot(bits: u64) -> Self {
        f32::from_bits(bits as u32)
    }
}

impl<T> Slot for *const T {
    const KIND: u8 = b'p';
    fn from_slot(bits: u64) -> Self {
        bits as usize as *const T
    }
}

impl<T> Slot for *mut T {
    const KIND: u8 = b'p';
    fn from_slot(bits: u64) -> Self {
        bits as usize as *mut T
    }
}

/// FNV-1a, 32 bits.
pub const fn hash_bytes(mut hash: u32, bytes: &[u8]) -> u32 {
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u32).wrapping_mul(0x0100_0193);
        i += 1;
    }
    hash
}

macro_rules! records {
    ($($opcode:literal $name:ident { $($slot:ident: $kind:ty),* $(,)? })*) => {
        $(
            pub struct $name { $(pub $slot: $kind),* }

            impl $name {
                pub const OPCODE: u64 = $opcode;

                /// # Safety
                /// `record` points to a whole record of this op.
                pub unsafe fn read(record: *const u64) -> Self {
                    let mut place = 0;
                    $(
                        place += 1;
                        let $slot = <$kind as $crate::record::Slot>::from_slot(record.add(place).read());
                    )*
                    assert!(place < $crate::record::RECORD_BYTES / 8);
                    Self { $($slot),* }
                }
            }
        )*

        /// Hash of the table: "<opcode><name>(<slot>:<kind>,…)" of all ops in order.
        pub const TABLE_HASH: u32 = {
            let mut hash = 0x811c_9dc5;
            $(
                hash = $crate::record::hash_bytes(hash, stringify!($opcode).as_bytes());
                hash = $crate::record::hash_bytes(hash, stringify!($name).as_bytes());
                $(
                    hash = $crate::record::hash_bytes(hash, b",");
                    hash = $crate::record::hash_bytes(hash, stringify!($slot).as_bytes());
                    hash =
                        $crate::record::hash_bytes(hash, &[b':', <$kind as $crate::record::Slot>::KIND]);
                )*
            )*
            hash
        };
    };
}

#[cfg(feature = "train")]
pub(crate) use records;

records! {
    1 PackRows {
        source: *const u8, dtype: usize, first_row: usize, rows: usize, columns: usize,
        weight: *mut u8, format: usize, panel_bytes: usize,
    }
    2 GatherRows {
        rows: usize, row_index: *const i32, table: *const u8, format: usize, panel_bytes: usize,
        table_rows: usize, width: usize, out: *mut f32,
    }
    3 CopyRows {
        rows: usize, source: *const f32, source_row: *const i32, source_rows: usize,
        out: *mut f32, out_row: *const i32, out_rows: usize, width: usize,
    }
    4 Matmul {
        rows: usize, input: *const f32, weight: *const u8, format: usize, panel_bytes: usize,
        columns: usize, width: usize, bias: *const f32, out: *mut f32, scratch: *mut u8,
        blocks: *mut u8, block_rows: usize,
    }
    5 ExpertMatmul {
        places: usize, input: *const f32, input_rows: usize, weight: *const u8, format: usize,
        panel_bytes: usize, expert_bytes: usize, experts: usize, columns: usize, width: usize,
        expert_start: *const i32, grouped_pair: *const i32, choices: usize, out: *mut f32,
        scratch: *mut u8, blocks: *mut u8, block_rows: usize,
    }
    6 RmsNorm {
        rows: usize, width: usize, input: *const f32, weight: *const f32, epsilon: f32,
        out: *mut f32,
    }
    7 LayerNorm {
        rows: usize, width: usize, input: *const f32, weight: *const f32, bias: *const f32,
        epsilon: f32, out: *mut f32,
    }
    8 Rope {
        rows: usize, width: usize, head_width: usize, input: *const f32, position: *const i32,
        table: *const f32, positions: usize, out: *mut f32,
    }
    9 WriteKv {
        rows: usize, key: *const f32, value: *const f32, slot: *const i32,
        cache: *mut u8, format: usize, pages: usize, page_tokens: usize, kv_heads: usize,
        head_width: usize, head_bytes: usize, value_offset: usize, scale_offset: usize,
    }
    10 Attention {
        rows: usize, query: *const f32, heads: usize, scale: f32, out: *mut f32,
        row_sequence: *const i32, row_length: *const i32, page_table: *const i32,
        sequences: usize, sequence_pages: usize,
        cache: *const u8, format: usize, pages: usize, page_tokens: usize, kv_heads: usize,
        head_width: usize, head_bytes: usize, value_offset: usize, scale_offset: usize,
        scratch: *mut f32, thread_floats: usize,
    }
    11 SegmentAttention {
        rows: usize, segment_rows: usize, heads: usize, head_width: usize, scale: f32,
        query: *const f32, key: *const f32, value: *const f32, out: *mut f32,
        scratch: *mut f32, thread_floats: usize, rounded: usize,
    }
    12 Swiglu { count: usize, gate: *const f32, up: *const f32, out: *mut f32 }
    13 Gelu { count: usize, input: *const f32, out: *mut f32 }
    14 Add {
        count: usize, left: *const f32, right: *const f32, right_count: usize, out: *mut f32,
    }
    15 GateTopK {
        rows: usize, experts: usize, choices: usize, normalize: usize, logits: *const f32,
        expert_index: *mut i32, expert_weight: *mut f32,
    }
    16 GroupByExpert {
        pairs: usize, experts: usize, expert_index: *const i32, expert_start: *mut i32,
        grouped_pair: *mut i32, pair_place: *mut i32,
    }
    17 CombineRows {
        rows: usize, choices: usize, width: usize, input: *const f32, pair_place: *const i32,
        expert_weight: *const f32, out: *mut f32,
    }
    18 Patchify {
        tiles: usize, tile_size: usize, patch_size: usize, input: *const u8,
        mean_red: f32, mean_green: f32, mean_blue: f32,
        deviation_red: f32, deviation_green: f32, deviation_blue: f32, out: *mut f32,
    }
    19 Sample {
        rows: usize, vocabulary: usize, candidates: usize, logits: *mut f32, params: *const f32,
        mask: *const i32, masks: usize, adjust_start: *const i32, adjust_token: *const i32,
        adjust_penalty: *const f32, adjust_add: *const f32, id: *mut i32, logprob: *mut f32,
        candidate_id: *mut i32, candidate_logprob: *mut f32, scratch: *mut u8,
        thread_bytes: usize,
    }
    20 Probe { kind: usize, memory: *const u8, count: usize, out: *mut f32 }
}
