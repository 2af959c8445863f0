/** Which artefact runs, why, and where its module comes from. */
import { OperatingError } from "@/errors.ts";
import { obstacle, probeFeatures, type Variant, variants } from "./features.ts";

/** Modules, or their bytes, by variant. */
export type ModuleBytes = Readonly<Partial<Record<Variant, BufferSource | WebAssembly.Module>>>;

const defaultFolder = new URL("../../../wasm/", import.meta.url);

/**
 * The requested variant, or the best that the machine and the given modules allow. Throws
 * OperatingError("unavailable") when there is none.
 */
export function chooseVariant(
  options: { variant?: Variant; modules?: ModuleBytes },
): { variant: Variant; reason: string } {
  const features = probeFeatures();
  const blocked = (variant: Variant) =>
    options.modules && !options.modules[variant]
      ? "its module is not part of this program"
      : obstacle(variant, features);
  if (options.variant) {
    const problem = blocked(options.variant);
    if (problem === "") return { variant: options.variant, reason: "requested" };
    throw new OperatingError(
      "unavailable",
      `Cannot use the kernel variant ${options.variant}: ${problem}`,
    );
  }
  const passed: string[] = [];
  for (const variant of variants) {
    const problem = blocked(variant);
    if (problem === "") {
      const reason = passed.length === 0 ? "the machine has all features" : passed.join("; ");
      return { variant, reason };
    }
    passed.push(`not ${variant}: ${problem}`);
  }
  throw new OperatingError("unavailable", `Cannot run WASM kernels: ${passed.join("; ")}`);
}

/** Compiles a variant's module. */
export async function loadModule(
  variant: Variant,
  options: { kernelsFolder?: URL; modules?: ModuleBytes },
): Promise<WebAssembly.Module> {
  const given = options.modules?.[variant];
  if (given instanceof WebAssembly.Module) return given;
  const url = new URL(`compute-${variant}/compute_bg.wasm`, options.kernelsFolder ?? defaultFolder);
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
  if (url.protocol === "file:") return await Deno.readFile(url);
  const response = await fetch(url);
  if (!response.ok) throw new Error(`HTTP status ${response.status}`);
  return await response.arrayBuffer();
}
