/**
 * Finds out by trial whether an adapter divides and takes roots correctly rounded, which WGSL does
 * not promise. Kernels correct the result where it does not.
 */
/** Random pairs compared; an inexact division differs in one of a few. */
const TRIALS = 1024;
const SIZE = 64;

const source = /* wgsl */ `
@group(0) @binding(0) var<storage, read> pairs: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> results: array<vec2<f32>>;
@compute @workgroup_size(${SIZE})
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let pair = pairs[id.x];
  results[id.x] = vec2<f32>(pair.x / pair.y, sqrt(pair.x));
}`;

/** Pairs in [1, 3): Weyl sequences of two irrational steps, so no chance is involved. */
function trialPairs(): Float32Array<ArrayBuffer> {
  return Float32Array.from({ length: 2 * TRIALS }, (_, i) => {
    const step = i % 2 === 0 ? Math.SQRT2 : Math.PI;
    return 1 + 2 * ((Math.floor(i / 2) + 1) * step % 1);
  });
}

export async function dividesExactly(gpu: GPUDevice): Promise<boolean> {
  const pairs = trialPairs();
  const results = await compute(gpu, pairs);
  return results.every((value, i) => {
    const [x, y] = [pairs[i - i % 2]!, pairs[i - i % 2 + 1]!];
    return value === Math.fround(i % 2 === 0 ? x / y : Math.sqrt(x));
  });
}

async function compute(gpu: GPUDevice, pairs: Float32Array<ArrayBuffer>): Promise<Float32Array> {
  const size = pairs.byteLength;
  const { STORAGE, COPY_DST, COPY_SRC, MAP_READ } = GPUBufferUsage;
  const input = gpu.createBuffer({ size, usage: STORAGE | COPY_DST });
  const output = gpu.createBuffer({ size, usage: STORAGE | COPY_SRC });
  const staging = gpu.createBuffer({ size, usage: MAP_READ | COPY_DST });
  gpu.queue.writeBuffer(input, 0, pairs);
  const module = gpu.createShaderModule({ code: source });
  const pipeline = gpu.createComputePipeline({
    layout: "auto",
    compute: { module, entryPoint: "main" },
  });
  const encoder = gpu.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    gpu.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [input, output].map((buffer, binding) => ({ binding, resource: { buffer } })),
    }),
  );
  pass.dispatchWorkgroups(TRIALS / SIZE);
  pass.end();
  encoder.copyBufferToBuffer(output, 0, staging, 0, size);
  gpu.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const results = new Float32Array(staging.getMappedRange().slice(0));
  for (const buffer of [input, output, staging]) buffer.destroy();
  return results;
}
