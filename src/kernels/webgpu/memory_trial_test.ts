import assert from "node:assert/strict";
import { optionalTest } from "../../../tests/skip.ts";
import { adapterObstacle, openDevice } from "./device.ts";
import { grantedBytes, usableDeviceBytes } from "./memory_trial.ts";

const webGpu = { tool: "webgpu", missing: await adapterObstacle(navigator.gpu) };
const CHUNK_BYTES = 128 * 1024 * 1024;

/** A device that has memory for so many buffers, as a card of that size. */
function limitDevice(device: GPUDevice, buffers: number): { live: number; refused: number } {
  const seen = { live: 0, refused: 0 };
  const create = device.createBuffer.bind(device);
  const pop = device.popErrorScope.bind(device);
  let failed = false;
  device.createBuffer = (descriptor) => {
    failed = seen.live >= buffers;
    if (failed) seen.refused++;
    const buffer = create({ ...descriptor, size: 16 });
    const destroy = buffer.destroy.bind(buffer);
    if (!failed) seen.live++;
    const isHeld = !failed;
    buffer.destroy = () => {
      if (isHeld) seen.live--;
      destroy();
    };
    return buffer;
  };
  device.popErrorScope = async () => {
    const isRefused = failed;
    await pop();
    return isRefused ? new GPUOutOfMemoryError("out of memory") : null;
  };
  return seen;
}

optionalTest(
  { name: "grantedBytes() takes what it asks for where there is memory", needs: [webGpu] },
  async () => {
    const { gpu: device } = await openDevice(navigator.gpu);
    assert.equal(await grantedBytes(device, 2 * CHUNK_BYTES), 2 * CHUNK_BYTES);
    assert.equal(await grantedBytes(device, CHUNK_BYTES + 1), CHUNK_BYTES + 1);
    device.destroy();
    // A software adapter takes the system's memory and is not asked.
    const { isSoftware, gpu } = await openDevice(navigator.gpu);
    gpu.destroy();
    if (isSoftware) assert.equal(await usableDeviceBytes(2 ** 50), 2 ** 50);
  },
);

optionalTest(
  { name: "grantedBytes() gives nine tenths of what a full device granted", needs: [webGpu] },
  async () => {
    const { gpu: device } = await openDevice(navigator.gpu);
    const seen = limitDevice(device, 5);
    assert.equal(await grantedBytes(device, 100 * CHUNK_BYTES), Math.floor(0.9 * 5 * CHUNK_BYTES));
    assert.deepEqual(seen, { live: 0, refused: 1 });
    device.destroy();
  },
);

optionalTest(
  { name: "grantedBytes() ends when the device is lost over the trial", needs: [webGpu] },
  async () => {
    const { gpu: device } = await openDevice(navigator.gpu);
    limitDevice(device, 1000);
    const create = device.createBuffer;
    let created = 0;
    device.createBuffer = (descriptor) => {
      if (++created === 4) device.destroy();
      return create(descriptor);
    };
    let pops = 0;
    device.popErrorScope = () => ++pops < 4 ? Promise.resolve(null) : new Promise(() => {});
    assert.equal(await grantedBytes(device, 100 * CHUNK_BYTES), Math.floor(0.9 * 3 * CHUNK_BYTES));
  },
);
