/**
 * What a WGSL kernel is: named tensors and numbers, and a body that reaches tensors only through
 * generated accessors. Which binding a tensor lies in is decided per dispatch, because tensors of
 * one workspace share a buffer and WebGPU forbids binding a written buffer twice.
 */
import { assert } from "@/assert.ts";

/** How a kernel sees a tensor: single values, or whole vectors at multiples of 16 bytes. */
export type ElementType = "f32" | "i32" | "u32" | "u8" | "vec4u" | "vec4f";

export interface TensorUse {
  readonly type: ElementType;
  /** Also read unless the body does not. */
  readonly written?: boolean;
}

export interface Kernel {
  /** Names the kernel with everything that its body was specialised for. */
  readonly name: string;
  readonly tensors: Readonly<Record<string, TensorUse>>;
  /** Numbers of one dispatch, as `p.name` in the body. */
  readonly numbers: Readonly<Record<string, "u32" | "i32" | "f32">>;
  /**
   * WGSL with the entry point `main`. For a tensor `x` there are `x_at(i)` and, when written,
   * `x_set(i, value)`, with i in elements from the tensor's start.
   */
  readonly body: string;
}

/** Binding of each tensor, in the order of `Kernel.tensors`, and what each binding must allow. */
export interface BindingPlan {
  readonly binding: readonly number[];
  readonly written: readonly boolean[];
}

/**
 * The same place gets the same binding. A buffer that is written in one place counts as written in
 * all of them, as WebGPU forbids two kinds of use in one dispatch.
 */
export function planBindings(
  kernel: Kernel,
  places: readonly { readonly block: unknown }[],
): BindingPlan {
  const distinct: { readonly block: unknown }[] = [];
  const writtenBlocks = new Set<unknown>();
  const uses = Object.values(kernel.tensors);
  const binding = places.map((place, i) => {
    if (uses[i]!.written) writtenBlocks.add(place.block);
    const index = distinct.indexOf(place);
    return index < 0 ? distinct.push(place) - 1 : index;
  });
  return { binding, written: distinct.map(({ block }) => writtenBlocks.has(block)) };
}

/** Bytes of one element of each type. */
export const elementBytes: Readonly<Record<ElementType, number>> = {
  f32: 4,
  i32: 4,
  u32: 4,
  u8: 1,
  vec4u: 16,
  vec4f: 16,
};

const arrayType: Readonly<Record<ElementType, string>> = {
  f32: "f32",
  i32: "i32",
  u32: "u32",
  u8: "u32",
  vec4u: "vec4<u32>",
  vec4f: "vec4<f32>",
};
const valueType: Readonly<Record<ElementType, string>> = { ...arrayType, u8: "u32" };
const isVector = (type: ElementType) => type.startsWith("vec4");

/** What kernels may rely on beyond the WGSL that every adapter has. */
export interface Dialect {
  /** Division and square root are correctly rounded, which WGSL does not promise. */
  readonly exactDivision: boolean;
  /** `dot4I8Packed` is known. */
  readonly packedDot: boolean;
  /** Half-precision values can be kept as such. */
  readonly f16: boolean;
  /** Invocations of a subgroup can compare values without workgroup memory. */
  readonly subgroups: boolean;
}

/**
 * Variants of what kernels call. All of them give the same bits: halves become float32 before
 * anything is computed, and a largest value is the same in any order.
 */
function prelude({ exactDivision, packedDot, f16, subgroups }: Dialect): string {
  const dot = packedDot
    ? "return dot4I8Packed(a, b);"
    : "let x = bitcast<vec2<i32>>(vec2<u32>(a, b));\n  var sum = 0;\n" +
      "  for (var i = 0u; i < 32u; i += 8u) {\n" +
      "    sum += extractBits(x.x, i, 8u) * extractBits(x.y, i, 8u);\n  }\n  return sum;";
  const halves = f16
    ? "alias half4 = vec4<f16>;\n" +
      "fn half4_of(value: vec4<f32>) -> half4 { return vec4<f16>(value); }"
    : "alias half4 = vec4<f32>;\n" +
      "fn half4_of(value: vec4<f32>) -> half4 { return value; }";
  const largest = subgroups
    ? "fn lanes_max(value: f32) -> f32 { return subgroupMax(value); }\n" +
      "fn lanes_speaker() -> bool { return subgroupElect(); }"
    : "fn lanes_max(value: f32) -> f32 { return value; }\n" +
      "fn lanes_speaker() -> bool { return true; }";
  return [
    ...f16 ? ["enable f16;"] : [],
    ...subgroups ? ["enable subgroups;"] : [],
    `const exact_division = ${exactDivision};`,
    `fn packed_dot(a: u32, b: u32) -> i32 { ${dot} }`,
    halves,
    largest,
  ].join("\n");
}

/** The whole module: bindings, parameters, accessors, body. */
export function moduleSource(kernel: Kernel, plan: BindingPlan, dialect: Dialect): string {
  const entries = Object.entries(kernel.tensors);
  const typeOf = plan.written.map((_, index) => entries[plan.binding.indexOf(index)]![1].type);
  const bindings = plan.written.map((written, index) => {
    const access = written ? "read_write" : "read";
    return `@group(0) @binding(${index}) var<storage, ${access}> b${index}: ` +
      `array<${arrayType[typeOf[index]!]}>;`;
  });
  const fields = [
    ...entries.map(([name]) => `${name}: u32,`),
    ...Object.entries(kernel.numbers).map(([name, type]) => `${name}: ${type},`),
  ];
  const accessors = entries.map(([name, use], i) => {
    const index = plan.binding[i]!;
    const isAlike = isVector(use.type) === isVector(typeOf[index]!);
    assert(isAlike, `${kernel.name}: vectors and values of ${name} in one buffer`);
    return accessorsOf(name, use, { buffer: `b${index}`, type: typeOf[index]! });
  });
  return [
    prelude(dialect),
    ...bindings,
    `struct Numbers { ${fields.join(" ")} }`,
    "@group(1) @binding(0) var<uniform> p: Numbers;",
    ...accessors,
    kernel.body,
  ].join("\n");
}

function accessorsOf(
  name: string,
  use: TensorUse,
  { buffer, type }: { buffer: string; type: ElementType },
): string {
  if (use.type === "u8") {
    return `fn ${name}_at(i: u32) -> u32 { let e = p.${name} + i; ` +
      `return (bitcast<u32>(${buffer}[e >> 2u]) >> (8u * (e & 3u))) & 255u; }`;
  }
  const value = valueType[use.type];
  const read = `fn ${name}_at(i: u32) -> ${value} ` +
    `{ return bitcast<${value}>(${buffer}[p.${name} + i]); }`;
  if (!use.written) return read;
  return `${read}\nfn ${name}_set(i: u32, value: ${value}) ` +
    `{ ${buffer}[p.${name} + i] = bitcast<${arrayType[type]}>(value); }`;
}

/** The bytes of the `Numbers` struct: first the tensors' offsets in elements, then the numbers. */
export function writeNumbers(
  kernel: Kernel,
  values: { offsets: readonly number[]; numbers: Readonly<Record<string, number>> },
  view: DataView,
): void {
  let at = 0;
  for (const offset of values.offsets) {
    view.setUint32(at, offset, true);
    at += 4;
  }
  for (const [name, type] of Object.entries(kernel.numbers)) {
    const value = values.numbers[name]!;
    if (type === "f32") view.setFloat32(at, value, true);
    else if (type === "i32") view.setInt32(at, value, true);
    else view.setUint32(at, value, true);
    at += 4;
  }
  assert(at <= view.byteLength, `${kernel.name} has ${at} bytes of numbers`);
}
