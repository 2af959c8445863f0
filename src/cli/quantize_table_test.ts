import { equal } from "node:assert/strict";
import { quantizeTable, sizeText } from "./quantize_table.ts";

Deno.test("quantizeTable() sums parts and formats and names the worst tensor", () => {
  const matrix = (name: string, format: "q4" | "q8" | "bf16", relativeError: number) => ({
    name,
    format,
    vector: false,
    sizeBytes: 1_500_000,
    relativeError,
  });
  const table = quantizeTable([
    {
      name: "decoder.0.mlpNorm.weight",
      format: "f32",
      vector: true,
      sizeBytes: 400,
      relativeError: 0,
    },
    matrix("vision.patch.weight", "bf16", 0),
    matrix("decoder.1.query.weight", "q4", 0.06),
    matrix("decoder.2.key.weight", "q4", 0.08),
    matrix("decoder.1.experts.up", "q4", 0.07),
    matrix("decoder.head", "q8", 0.01),
  ]);
  equal(
    table,
    [
      "part                      format  tensors    size   error  worst tensor",
      "norms, biases, positions  f32           1  0.4 kB       -",
      "patch projection          bf16          1  1.5 MB       -",
      "attention                 q4            2  3.0 MB  7.07 %  decoder.2.key.weight 8.00 %",
      "experts                   q4            1  1.5 MB  7.00 %  decoder.1.experts.up 7.00 %",
      "head                      q8            1  1.5 MB  1.00 %  decoder.head 1.00 %",
      "all                                     6  7.5 MB  6.12 %  decoder.2.key.weight 8.00 %",
    ].join("\n"),
  );
});

Deno.test("sizeText() chooses a unit", () => {
  equal(sizeText(999), "1.0 kB");
  equal(sizeText(1_234_567), "1.2 MB");
  equal(sizeText(4_840_000_000), "4.84 GB");
});
