/** Reading streams chunk by chunk, also where they cannot be iterated. */

/** Yields the chunks of a stream; leaving the loop early cancels it. */
export async function* chunksOf<T>(stream: ReadableStream<T>): AsyncGenerator<T> {
  const reader = stream.getReader();
  let isDone = false;
  try {
    while (true) {
      const { done, value } = await reader.read();
      isDone = done;
      if (done) return;
      yield value;
    }
  } finally {
    if (!isDone) await reader.cancel().catch(() => {}); // a broken stream has told its error
  }
}
