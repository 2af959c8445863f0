/**
 * Builds `kernels-rs/codec` into `wasm/codec` in wasm-pack layout (glue, types, package.json) and
 * records what it was built from in `manifest.json`. Run it after every change of the crate:
 *
 *     deno run --allow-all kernels-rs/build_codec.ts [--check]
 *
 * `--check` only verifies that the committed files match the sources, and builds nothing.
 *
 * Needs a rustc 1.96 with `rust-src` (RUSTC and CARGO in the environment override
 * `/usr/bin/rustc` and `cargo`), `wasm-ld` and the `wasm-bindgen` command of the crate's version.
 * `wasm-pack` is not used because it cannot pass `--experimental-reset-state-function`, which lets
 * one isolate replace a spent or trapped instance.
 */
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { sha256Hex, sourceHash } from "./source_hash.ts";
import { limits } from "../src/limits.ts";

const rootFolder = fileURLToPath(new URL("..", import.meta.url));
const crateFolder = fileURLToPath(new URL("./codec", import.meta.url));
const outFolder = fileURLToPath(new URL("../wasm/codec", import.meta.url));
const targetFolder = fileURLToPath(new URL("./target/codec", import.meta.url));
const manifestPath = join(outFolder, "manifest.json");
const wasmPath = join(outFolder, "codec_bg.wasm");

/** Content of `wasm/codec/manifest.json`. */
interface Manifest {
  /** Of the crate, see `sourceHash()`. */
  sourceHash: string;
  /** Versions that decide the bytes. */
  toolchain: { rustc: string; wasmBindgen: string; linker: string; flags: string[] };
  /** SHA-256 of `codec_bg.wasm`. */
  bytesSha256: string;
}

const rustFlags = [
  "-Ctarget-feature=+simd128,+bulk-memory",
  "-Zlocation-detail=none", // no source paths of the building machine in the module
  `-Clink-arg=--max-memory=${limits.codecMemoryBytesMax}`,
  "-Clink-arg=-zstack-size=1048576",
];

async function run(command: string, args: string[], env: Record<string, string> = {}) {
  const process = new Deno.Command(command, {
    args,
    env,
    cwd: rootFolder, // not kernels-rs: its cargo configuration is for threaded modules
    stdout: "piped",
    stderr: "inherit",
  });
  const { success, code, stdout } = await process.output();
  if (!success) throw new Error(`${command} ended with status ${code}`);
  return new TextDecoder().decode(stdout).trim();
}

async function build(): Promise<void> {
  const rustc = Deno.env.get("RUSTC") ?? "/usr/bin/rustc";
  const cargo = Deno.env.get("CARGO") ?? "cargo";
  const linker = Deno.env.get("WASM_LD") ?? "wasm-ld";
  await run(cargo, [
    "build",
    `--manifest-path=${join(crateFolder, "Cargo.toml")}`,
    "--release",
    "--locked",
    "--target=wasm32-unknown-unknown",
    "-Zbuild-std=core,alloc,std,panic_abort",
    `--target-dir=${targetFolder}`,
  ], {
    RUSTC: rustc,
    RUSTC_BOOTSTRAP: "1",
    CARGO_ENCODED_RUSTFLAGS: rustFlags.join("\x1f"),
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: linker,
  });
  await run("wasm-bindgen", [
    join(targetFolder, "wasm32-unknown-unknown/release/flotilla_codec.wasm"),
    "--target=web",
    "--out-name=codec",
    `--out-dir=${outFolder}`,
    "--experimental-reset-state-function",
    "--remove-name-section",
    "--remove-producers-section",
  ]);
  await writePackage();
  const manifest: Manifest = {
    sourceHash: await sourceHash(crateFolder),
    toolchain: {
      rustc: await run(rustc, ["-V"]),
      wasmBindgen: await run("wasm-bindgen", ["-V"]),
      linker: await run(linker, ["--version"]),
      flags: rustFlags,
    },
    bytesSha256: sha256Hex(await Deno.readFile(wasmPath)),
  };
  await Deno.writeTextFile(manifestPath, JSON.stringify(manifest, null, 2) + "\n");
}

/** The package.json that wasm-pack would write. */
async function writePackage(): Promise<void> {
  const cargoToml = await Deno.readTextFile(join(crateFolder, "Cargo.toml"));
  const field = (name: string) => cargoToml.match(new RegExp(`^${name} = "(.*)"$`, "m"))?.[1];
  const content = {
    name: field("name"),
    type: "module",
    description: field("description"),
    version: field("version"),
    license: field("license"),
    files: ["codec_bg.wasm", "codec.js", "codec.d.ts"],
    main: "codec.js",
    types: "codec.d.ts",
    sideEffects: false,
  };
  await Deno.writeTextFile(
    join(outFolder, "package.json"),
    JSON.stringify(content, null, 2) + "\n",
  );
}

/** Throws when the committed module was not built from the sources as they are. */
async function check(): Promise<void> {
  const manifest = JSON.parse(await Deno.readTextFile(manifestPath)) as Manifest;
  if (manifest.sourceHash !== await sourceHash(crateFolder)) {
    throw new Error("wasm/codec is stale: run deno run --allow-all kernels-rs/build_codec.ts");
  }
  if (manifest.bytesSha256 !== sha256Hex(await Deno.readFile(wasmPath))) {
    throw new Error("wasm/codec/codec_bg.wasm is not the file that its manifest describes");
  }
}

if (import.meta.main) await (Deno.args.includes("--check") ? check() : build());
