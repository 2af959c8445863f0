/** PyTorch on this machine's processor: the same training step, from the same weights and batch. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { OperatingError } from "@/errors.ts";
import { missingPeer } from "./peer.ts";
import { type StepMeasurement, stepOptimizer, type StepTask } from "../training_step.ts";

const script = fileURLToPath(new URL("pytorch_step.py", import.meta.url));

export interface PytorchMeasurement extends StepMeasurement {
  readonly version: string;
}

interface PytorchContext {
  /** An environment in `pytorch/` there is taken before the path's Python. */
  readonly cacheFolder: string;
}

const environmentPython = ({ cacheFolder }: PytorchContext) =>
  join(cacheFolder, "pytorch/bin/python3");

/** The Python that has PyTorch; throws OperatingError that says how to get one. */
export async function findPytorch(context: PytorchContext): Promise<string> {
  for (const program of [environmentPython(context), "python3"]) {
    if (await runs(program, ["-c", "import numpy, torch"])) return program;
  }
  const folder = dirname(dirname(environmentPython(context)));
  throw missingPeer(
    "PyTorch",
    `no python3 on the path or in ${folder} imports it; ` +
      `python3 -m venv ${folder} && ${folder}/bin/pip install torch numpy`,
  );
}

async function runs(program: string, args: string[]): Promise<boolean> {
  try {
    const command = new Deno.Command(program, { args, stdout: "null", stderr: "null" });
    return (await command.output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Runs the steps in a process of its own. */
export async function measurePytorch(
  python: string,
  task: StepTask,
  { threads, warmups, repeats }: { threads: number; warmups: number; repeats: number },
): Promise<PytorchMeasurement> {
  const folder = await Deno.makeTempDir();
  try {
    await writeTask(folder, task, { threads, warmups, repeats, optimizer: stepOptimizer });
    const command = new Deno.Command(python, { args: [script, folder], stdin: "null" });
    const { success, stdout, stderr } = await command.output();
    if (!success) {
      throw new OperatingError("unavailable", "Cannot compare with PyTorch: its step failed", {
        detail: new TextDecoder().decode(stderr).slice(-2000),
      });
    }
    return JSON.parse(new TextDecoder().decode(stdout)) as PytorchMeasurement;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** What `pytorch_step.py` reads. */
async function writeTask(folder: string, task: StepTask, settings: object): Promise<void> {
  const { modelFolder, config, samples, batch } = task;
  const { vision, decoder, preprocess } = config;
  const { tileSize, mean, deviation } = preprocess;
  const request = {
    ...settings,
    samples,
    weights: join(modelFolder, "model.safetensors"),
    config: { vision: { ...vision, tileSize, mean, deviation }, decoder },
  };
  await Deno.writeTextFile(join(folder, "step.json"), JSON.stringify(request));
  const { tokenIds: ids, visualRows, scoredRows, targets, tiles } = batch;
  const arrays = { ids, visualRows, scoredRows, targets, tiles };
  for (const [name, { buffer, byteOffset, byteLength }] of Object.entries(arrays)) {
    const bytes = new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength);
    await Deno.writeFile(join(folder, `${name}.bin`), bytes);
  }
}
