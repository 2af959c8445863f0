/**
 * Builds `kernels-rs/compute` into `wasm/compute-<variant>` and, with the ops of training, into
 * `wasm/train-<variant>` (wasm-pack layout: glue, types, package.json) and records sources, toolchain and results in `wasm/manifest.json`. The picture
 * codec has its own script. Run it after every change of the crate:
 *
 *     deno task build:wasm [--check]
 *
 * `--check` fails when the sources are not those of the committed modules; with the recorded
 * toolchain at hand it also rebuilds everything in a scratch folder and compares all bytes.
 *
 * Needs rustc 1.96 with its sources (`rust-web-src`; RUSTC overrides `/usr/bin/rustc`, and the
 * cargo beside it is used), `wasm-ld-22` (or WASM_LD), wasm-pack and the wasm-bindgen command of
 * the crate's version on PATH.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { sha256Hex, sourceHash } from "./source_hash.ts";

const crateFolder = fileURLToPath(new URL("./compute", import.meta.url));
/** One folder for all variants: what runs on the host (macros) is built once. */
const cargoFolder = fileURLToPath(new URL("./target/compute", import.meta.url));
const wasmFolder = fileURLToPath(new URL("../wasm", import.meta.url));
const manifestPath = join(wasmFolder, "manifest.json");

const rustc = Deno.env.get("RUSTC") ?? "/usr/bin/rustc";
const linker = Deno.env.get("WASM_LD") ?? "wasm-ld-22";

/** Content of `wasm/manifest.json`. */
interface Manifest {
  /** Of the crate and its workspace files, see `sourceHash()`. */
  sourceHash: string;
  /** Versions that decide the bytes. */
  toolchain: Record<string, string>;
  flags: Record<string, string[]>;
  modules: Record<string, { sizeBytes: number; sha256: string }>;
}

/** The twin with 64-bit addresses; all else as in `compute-relaxed-threads`. */
const wideModule = "compute-relaxed-threads-64";

/** 65 536 pages: all that 32-bit addresses reach. */
const MEMORY_BYTES_MAX = 2 ** 32;
/** 262 144 pages, the most that V8 gives a 64-bit memory; a host may declare fewer. */
const MEMORY64_BYTES_MAX = 2 ** 34;

const commonFlags = [
  "-Zlocation-detail=none", // no source paths of the building machine in the module
];
const narrowFlags = [...commonFlags, `-Clink-arg=--max-memory=${MEMORY_BYTES_MAX}`];
const wideFlags = [...commonFlags, `-Clink-arg=--max-memory=${MEMORY64_BYTES_MAX}`];
const threadFlags = [
  "-Clink-arg=--shared-memory",
  "-Clink-arg=--import-memory",
  // Thread-local storage, which wasm-bindgen's start function sets up in every thread.
  ...["__wasm_init_tls", "__tls_size", "__tls_align", "__tls_base"]
    .map((name) => `-Clink-arg=--export=${name}`),
];
const relaxedThreads = "compute-relaxed-threads";
const flagsOf: Record<string, string[]> = {
  [relaxedThreads]: [
    "-Ctarget-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory",
    ...threadFlags,
    ...narrowFlags,
  ],
  "compute-simd-threads": [
    "-Ctarget-feature=+simd128,+atomics,+bulk-memory",
    ...threadFlags,
    ...narrowFlags,
  ],
  "compute-simd": ["-Ctarget-feature=+simd128,+bulk-memory", ...narrowFlags],
  [wideModule]: [
    "-Ctarget-feature=+simd128,+relaxed-simd,+atomics,+bulk-memory",
    ...threadFlags,
    ...wideFlags,
  ],
};
// The same flags, with the ops of training.
flagsOf["train-relaxed-threads"] = flagsOf[relaxedThreads]!;
flagsOf["train-simd"] = flagsOf["compute-simd"]!;

const isTraining = (name: string) => name.startsWith("train-");

const cargoFlags = ["--locked", "-Zbuild-std=std,panic_abort"];

const say = (text: string) => Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));

async function run(command: string, args: string[], env: Record<string, string> = {}) {
  const options = { args, env, cwd: crateFolder, stderr: "inherit", stdout: "piped" } as const;
  const { success, code, stdout } = await new Deno.Command(command, options).output();
  if (!success) throw new Error(`${command} ended with status ${code}`);
  return new TextDecoder().decode(stdout).trim();
}

/** Builds one module in wasm-pack layout. */
async function buildModule(name: string, outFolder: string): Promise<void> {
  await run("wasm-pack", [
    ...["build", "--mode", "force", "--release", "--target", "web", "--no-opt"],
    ...["--out-dir", outFolder, ".", "--"],
    ...cargoFlags,
    ...isTraining(name) ? ["--features", "train"] : [],
  ], buildEnvironment(name));
  await Deno.remove(join(outFolder, ".gitignore"));
}

/**
 * The same for 64-bit addresses, of which wasm-pack knows nothing: its two steps by hand. The
 * package file is that of the 32-bit twin.
 */
async function buildWideModule(outFolder: string, twinFolder: string): Promise<void> {
  const target = "wasm64-unknown-unknown";
  await run(
    "cargo",
    ["build", "--lib", "--release", "--target", target, ...cargoFlags],
    buildEnvironment(wideModule),
  );
  await run("wasm-bindgen", [
    join(cargoFolder, target, "release", "compute.wasm"),
    ...["--out-dir", outFolder, "--typescript", "--target", "web"],
  ]);
  await Deno.copyFile(join(twinFolder, "package.json"), join(outFolder, "package.json"));
}

function buildEnvironment(name: string): Record<string, string> {
  return {
    // The cargo that belongs to the compiler comes first.
    PATH: `${dirname(rustc)}:${Deno.env.get("PATH") ?? ""}`,
    RUSTC: rustc,
    RUSTC_BOOTSTRAP: "1",
    CARGO_ENCODED_RUSTFLAGS: flagsOf[name]!.join("\x1f"),
    CARGO_TARGET_DIR: cargoFolder,
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER: linker,
    CARGO_TARGET_WASM64_UNKNOWN_UNKNOWN_LINKER: linker,
  };
}

async function build(outFolder: string): Promise<void> {
  for (const name of Object.keys(flagsOf)) {
    const folder = join(outFolder, name);
    if (name !== wideModule) await buildModule(name, folder);
    else await buildWideModule(folder, join(outFolder, "compute-relaxed-threads"));
  }
}

/** Hash of everything under this folder that decides the modules. */
function computeSourceHash(): Promise<string> {
  return sourceHash(crateFolder, ["../Cargo.toml", "../Cargo.lock"]);
}

async function toolchain(): Promise<Record<string, string>> {
  return {
    rustc: await run(rustc, ["-vV"]),
    linker: await run(linker, ["--version"]),
    wasmPack: await run("wasm-pack", ["--version"]),
    wasmBindgen: await run("wasm-bindgen", ["--version"]),
  };
}

async function modulesIn(folder: string): Promise<Manifest["modules"]> {
  const modules: Manifest["modules"] = {};
  for (const name of Object.keys(flagsOf)) {
    const bytes = await Deno.readFile(join(folder, name, "compute_bg.wasm"));
    modules[name] = { sizeBytes: bytes.length, sha256: sha256Hex(bytes) };
  }
  return modules;
}

async function buildAndRecord(): Promise<void> {
  await build(wasmFolder);
  const manifest: Manifest = {
    sourceHash: await computeSourceHash(),
    toolchain: await toolchain(),
    flags: flagsOf,
    modules: await modulesIn(wasmFolder),
  };
  await Deno.writeTextFile(manifestPath, JSON.stringify(manifest, null, 2) + "\n");
}

async function check(): Promise<void> {
  const manifest = JSON.parse(await Deno.readTextFile(manifestPath)) as Manifest;
  if (manifest.sourceHash !== await computeSourceHash()) {
    throw new Error("wasm/compute-* are stale: run deno task build:wasm");
  }
  if (JSON.stringify(manifest.modules) !== JSON.stringify(await modulesIn(wasmFolder))) {
    throw new Error("wasm/compute-* are not the modules that wasm/manifest.json describes");
  }
  const difference = await toolchainDifference(manifest.toolchain);
  if (difference !== "") {
    say(`Sources and modules match. Not rebuilt to compare bytes: ${difference}`);
    return;
  }
  const scratch = await Deno.makeTempDir();
  try {
    await build(scratch);
    for (const name of Object.keys(flagsOf)) {
      await compareFolders(join(wasmFolder, name), join(scratch, name));
    }
  } finally {
    await Deno.remove(scratch, { recursive: true });
  }
  say("Sources match, and a rebuild gives the same bytes.");
}

/** In what this machine's toolchain differs from the recorded one; empty when it does not. */
async function toolchainDifference(recorded: Record<string, string>): Promise<string> {
  let here;
  try {
    here = await toolchain();
  } catch (error) {
    return `the toolchain is not installed (${error instanceof Error ? error.message : error})`;
  }
  const names = Object.keys(recorded).filter((name) => here[name] !== recorded[name]);
  return names.map((name) => `${name} is ${here[name]}, recorded ${recorded[name]}`).join("; ");
}

async function compareFolders(committed: string, rebuilt: string): Promise<void> {
  const names = (folder: string) => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
  if (`${names(committed)}` !== `${names(rebuilt)}`) {
    throw new Error(`${committed} holds ${names(committed)}, a rebuild gives ${names(rebuilt)}`);
  }
  for (const name of names(committed)) {
    const [left, right] = await Promise.all(
      [committed, rebuilt].map((folder) => Deno.readFile(join(folder, name))),
    );
    if (sha256Hex(left!) !== sha256Hex(right!)) {
      throw new Error(`${join(committed, name)} differs from a rebuild`);
    }
  }
}

if (import.meta.main) await (Deno.args.includes("--check") ? check() : buildAndRecord());
