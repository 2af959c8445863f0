/** WGSL that reads packed weights (\`matrix_layout.ts\`), and the sizes that go with it. */
import type { MatrixFormat } from "../../backend.ts";

/** 32-bit words of one group of 32 columns in a panel, of a quantised format. */
export const groupWords = { q8: 68, q4: 36 } as const;

/** \`weight_value(base, lane, column)\`: one value of the panel that begins at word \`base\`. */
export function weightValue(format: MatrixFormat, tensor: string): string {
  const open = `fn weight_value(base: u32, lane: u32, column: u32) -> f32 {`;
  if (format === "f32") {
    return `${open} return bitcast<f32>(${tensor}_at(base + 8u * column + lane)); }`;
  }
  if (format === "bf16" || format === "f16") {
    const decode = format === "f16" ? "unpack2x16float(bits).x" : "bitcast<f32>(bits << 16u)";
    return `${open}
  let bits = (${tensor}_at(base + 4u * column + lane / 2u) >> (16u * (lane % 2u))) & 0xffffu;
  return ${decode};
}`;
  }
  const words = groupWords[format];
  return `${open}
  let group = base + column / 32u * ${words}u;
  let scale = (${tensor}_at(group + lane / 2u) >> (16u * (lane % 2u))) << 16u;
  let k = column % 32u;
  ${format === "q4" ? "let inVector = k % 16u;" : "let inVector = k;"}
  let word = ${tensor}_at(group + 4u + 4u * (2u * (inVector / 4u) + lane / 4u) + lane % 4u);
  ${
    format === "q4"
      ? "let code = (word >> (8u * (k % 4u) + 4u * (k / 16u))) & 15u;"
      : "let code = (word >> (8u * (k % 4u))) & 127u;"
  }
  return f32(i32(code) - ${format === "q4" ? 8 : 64}) * bitcast<f32>(scale);
}`;
}
