/** The GPU devices that this process opens, so that a test can take one away. */

export class GpuDevices implements Disposable {
  readonly opened: GPUDevice[] = [];
  readonly #request = GPUAdapter.prototype.requestDevice;

  constructor() {
    const { opened } = this;
    const request = this.#request;
    GPUAdapter.prototype.requestDevice = async function (descriptor) {
      const device = await request.call(this, descriptor);
      opened.push(device);
      return device;
    };
  }

  /** As when a driver fails or a card is pulled. */
  destroyAll(): void {
    for (const device of this.opened.splice(0)) device.destroy();
  }

  [Symbol.dispose](): void {
    GPUAdapter.prototype.requestDevice = this.#request;
  }
}
