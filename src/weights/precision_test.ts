import { equal, throws } from "node:assert/strict";
import { matrixFormatOf, precisionLabel, precisionOf, roleOf } from "./precision.ts";

const format = (name: string, precision: Parameters<typeof precisionOf>[0]) =>
  matrixFormatOf(name, {
    precision: precisionOf(precision),
    decoderLayers: 4,
    stored: "bf16",
  });

Deno.test("matrixFormatOf() keeps everything as stored without quantisation", () => {
  for (const name of ["decoder.head", "decoder.1.query.weight", "vision.0.up.weight"]) {
    equal(format(name, {}), "bf16", name);
  }
});

Deno.test("matrixFormatOf() keeps head, first and last layer of mixed q4 in q8", () => {
  const mixed = { quantisation: "q4" } as const;
  equal(format("decoder.0.query.weight", mixed), "q8");
  equal(format("decoder.1.query.weight", mixed), "q4");
  equal(format("decoder.2.experts.gate", mixed), "q4");
  equal(format("decoder.2.experts.17.up.weight", mixed), "q4");
  equal(format("decoder.3.down.weight", mixed), "q8");
  equal(format("decoder.head", mixed), "q8");
  equal(format("decoder.embedding", mixed), "q8");
  equal(format("vision.2.query.weight", mixed), "q8");
});

Deno.test("matrixFormatOf() gives every decoder linear of uniform q4 that format", () => {
  const uniform = { quantisation: "q4", preset: "uniform" } as const;
  for (const name of ["decoder.0.query.weight", "decoder.3.down.weight", "decoder.head"]) {
    equal(format(name, uniform), "q4", name);
  }
});

Deno.test("matrixFormatOf() never quantises the router or the patch projection", () => {
  for (const quantisation of ["q8", "q4"] as const) {
    for (const preset of ["mixed", "uniform"] as const) {
      const precision = { quantisation, preset, vision: quantisation };
      equal(format("decoder.1.moeGate.weight", precision), "bf16");
      equal(format("vision.patch.weight", precision), "bf16");
    }
  }
});

Deno.test("matrixFormatOf() takes the tower's format from its own choice", () => {
  equal(format("vision.0.up.weight", { quantisation: "q4", vision: "none" }), "bf16");
  equal(format("vision.0.up.weight", { quantisation: "q4", vision: "q4" }), "q4");
  equal(format("vision.0.up.weight", { vision: "q8" }), "q8");
});

Deno.test("matrixFormatOf() refuses a weight that the table does not know", () => {
  throws(() => format("decoder.1.surprise.weight", { quantisation: "q8" }), /surprise/);
});

Deno.test("roleOf() drops layer and expert", () => {
  equal(roleOf("decoder.12.query.weight"), "decoder.query");
  equal(roleOf("decoder.3.experts.7.up.weight"), "expert.up");
  equal(roleOf("decoder.3.experts.down"), "expert.down");
  equal(roleOf("decoder.head"), "decoder.head");
});

Deno.test("precisionLabel() tells apart what differs in a format", () => {
  const label = (options: Parameters<typeof precisionOf>[0]) =>
    precisionLabel(precisionOf(options));
  equal(label({}), "none");
  equal(label({ quantisation: "q4" }), "q4");
  equal(label({ quantisation: "q4", preset: "uniform" }), "q4-uniform");
  equal(label({ quantisation: "q8", preset: "uniform" }), "q8");
  equal(label({ quantisation: "q4", vision: "q4" }), "q4+vision-q4");
  equal(label({ vision: "q8" }), "none+vision-q8");
});
