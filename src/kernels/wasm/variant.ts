/** Which artefact runs, why, and where its module comes from. */
import { OperatingError } from "@/errors.ts";
import { limits } from "@/limits.ts";
import { PAGE_BYTES } from "./memory.ts";
import { obstacle, probeFeatures } from "./features.ts";
import { narrowVariants, trainingVariants, type Variant, WIDE_VARIANT } from "./variants.ts";

/** Modules, or their bytes, by variant. */
export type ModuleBytes = Readonly<Partial<Record<Variant, BufferSource | WebAssembly.Module>>>;

const defaultFolder = new URL("../../../wasm/", import.meta.url);

export interface VariantOptions {
  readonly variant?: Variant;
  readonly modules?: ModuleBytes;
  /** Estimate of all memory that will be needed; decides the address width. */
  readonly memoryBytes?: number;
  /** Take the kernels that know the ops of training; they have 32-bit addresses. */
  readonly training?: boolean;
}

/**
 * The requested variant, or the best that the machine, the given modules and the memory need allow.
 * 64-bit addresses are only taken when 32 bits may not reach. Throws OperatingError("unavailable")
 * when there is none.
 */
export function chooseVariant(options: VariantOptions): { variant: Variant; reason: string } {
  const features = probeFeatures();
  const blocked = (variant: Variant) => {
    if (options.modules && !options.modules[variant]) {
      return "its module is not part of this program";
    }
    if (options.training && !trainingVariants.includes(variant)) return "it cannot train";
    return obstacle(variant, features);
  };
  if (options.variant) {
    const problem = blocked(options.variant);
    if (problem === "") return { variant: options.variant, reason: "requested" };
    throw new OperatingError(
      "unavailable",
      `Cannot use the kernel variant ${options.variant}: ${problem}`,
    );
  }
  const { memoryBytes = 0 } = options;
  const passed: string[] = [];
  if (memoryBytes > limits.narrowMemoryBytesMax) {
    const problem = blocked(WIDE_VARIANT);
    refuseTooLarge(memoryBytes, problem);
    const reason = `the model needs about ${gib(memoryBytes)} GiB`;
    if (problem === "") return { variant: WIDE_VARIANT, reason };
    passed.push(`not ${WIDE_VARIANT}: ${problem}`);
  }
  for (const variant of narrowVariants) {
    const problem = blocked(variant);
    if (problem === "") {
      const reason = passed.length === 0 ? "the machine has all features" : passed.join("; ");
      return { variant, reason };
    }
    passed.push(`not ${variant}: ${problem}`);
  }
  throw new OperatingError("unavailable", `Cannot run WASM kernels: ${passed.join("; ")}`);
}

/** A need that no memory can meet is told before the first page is taken. */
function refuseTooLarge(memoryBytes: number, wideProblem: string): void {
  const isWide = wideProblem === "";
  const pages = isWide ? limits.kernelMemory64PagesMax : limits.kernelMemoryPagesMax;
  if (memoryBytes <= pages * PAGE_BYTES) return;
  throw new OperatingError(
    "unavailable",
    `Cannot run the kernels: the model needs about ${gib(memoryBytes)} GiB, memory with ` +
      `${isWide ? 64 : 32}-bit addresses ends at ${gib(pages * PAGE_BYTES)} GiB` +
      (isWide ? "; quantised weights and a shorter context need less" : `, and ${wideProblem}`),
  );
}

const gib = (bytes: number) => (bytes / 2 ** 30).toFixed(1);

/** Compiles a variant's module. */
export async function loadModule(
  variant: Variant,
  options: { kernelsFolder?: URL; modules?: ModuleBytes; training?: boolean },
): Promise<WebAssembly.Module> {
  const given = options.modules?.[variant];
  if (given instanceof WebAssembly.Module) return given;
  const kind = options.training ? "train" : "compute";
  const url = new URL(`${kind}-${variant}/compute_bg.wasm`, options.kernelsFolder ?? defaultFolder);
  try {
    return await WebAssembly.compile(given ?? await readBytes(url));
  } catch (cause) {
    throw new OperatingError("unavailable", `Cannot load the compute kernels ${variant}`, {
      cause,
      detail: `${url}: ${cause}`,
    });
  }
}

async function readBytes(url: URL): Promise<BufferSource> {
  const response = await fetch(url);
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  return await response.arrayBuffer();
}
