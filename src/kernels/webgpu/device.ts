/** Getting a WebGPU device: adapter, features, limits, and how it is told that it was lost. */
import { OperatingError } from "@/errors.ts";
import { dividesExactly } from "./exactness.ts";
import type { Dialect } from "./kernel.ts";

/** What of WebGPU is used; `navigator.gpu` in a page and in Deno. */
export interface Device {
  readonly gpu: GPUDevice;
  /** E.g. "NVIDIA H100" or "llvmpipe (LLVM 15.0.6, 256 bits)". */
  readonly adapterName: string;
  /** All that the adapter says of itself. */
  readonly identity: string;
  /** A processor that plays a GPU. */
  readonly isSoftware: boolean;
  readonly features: ReadonlySet<string>;
  readonly dialect: Dialect;
}

/** Used when the adapter has them. */
const wantedFeatures = ["shader-f16", "subgroups", "timestamp-query"] as const;

/** Asked for as far as the adapter goes; the rest stays at what every adapter has. */
const wantedLimits = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxStorageBuffersPerShaderStage",
] as const;

/** Why there is no adapter, or undefined when there is one. */
export async function adapterObstacle(gpu: GPU | undefined): Promise<string | undefined> {
  if (gpu === undefined) return "this runtime has no WebGPU";
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  return adapter ? undefined : "no adapter: neither a GPU driver nor a software one is installed";
}

/**
 * Throws OperatingError("unavailable") without an adapter or when it refuses a device. With
 * `portable` kernels use nothing that not every adapter has.
 */
export async function openDevice(
  gpu: GPU | undefined,
  { portable = false }: { portable?: boolean } = {},
): Promise<Device> {
  const adapter = await gpu?.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) {
    const obstacle = gpu ? await adapterObstacle(gpu) : "this runtime has no WebGPU";
    throw new OperatingError("unavailable", `Cannot open the webgpu backend: ${obstacle}`);
  }
  const features = portable
    ? []
    : wantedFeatures.filter((feature) => adapter.features.has(feature));
  const requiredLimits = Object.fromEntries(
    wantedLimits.map((name) => [name, adapter.limits[name]]),
  );
  try {
    const device = await adapter.requestDevice({
      requiredFeatures: features as GPUFeatureName[],
      requiredLimits,
    });
    const { description, device: model, architecture, vendor } = adapter.info;
    const adapterName = description || model || `${vendor} ${architecture}`.trim();
    return {
      gpu: device,
      adapterName: adapterName || "unnamed adapter",
      identity: [vendor, architecture, model, description].join("/"),
      isSoftware: /llvmpipe|swiftshader|software/i.test(`${adapterName} ${architecture}`),
      features: new Set(features),
      dialect: {
        exactDivision: await dividesExactly(device),
        packedDot: !portable &&
          gpu!.wgslLanguageFeatures.has("packed_4x8_integer_dot_product"),
        f16: features.includes("shader-f16"),
        subgroups: features.includes("subgroups"),
      },
    };
  } catch (cause) {
    const message = "Cannot open the webgpu backend: the adapter refuses a device";
    throw new OperatingError("unavailable", message, { cause });
  }
}
