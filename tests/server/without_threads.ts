/** Removes workers and shared memory from the global scope, as single-isolate hosts do. */
Reflect.deleteProperty(globalThis, "Worker");
Reflect.deleteProperty(globalThis, "SharedArrayBuffer");
