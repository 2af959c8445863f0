/**
 * A picture chosen by the visitor: its bytes as a data: URL, its size, and how the server will cut
 * it. Reading files lives here; drawing samples is `samples.ts`.
 */

export interface Picture {
  readonly id: number;
  readonly name: string;
  /** data: URL with the file's own bytes; the server decodes them, not the browser. */
  readonly url: string;
  readonly widthPixels: number;
  readonly heightPixels: number;
}

/** How the server cuts one picture, from `POST /render`. */
export interface TileGrid {
  readonly columns: number;
  readonly rows: number;
  /** Tiles of the picture, thumbnail included. */
  readonly tileCount: number;
  readonly tokenCount: number;
}

/** Formats that the server decodes. */
export const pictureTypes = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];

/**
 * The server's bound on one encoded picture, checked early to save an upload. A copy of
 * `limits.imageBytesMax`, because the bundle holds no server code; a test compares them.
 */
export const pictureBytesMax = 32 * 1024 * 1024;

/** Reads a file as the server will get it. Throws TypeError or RangeError with a text to show. */
export async function readPicture(file: File, id: number): Promise<Picture> {
  if (!pictureTypes.includes(file.type)) {
    const kind = file.type || "unknown type";
    throw new TypeError(`Cannot use ${file.name} (${kind}): choose a PNG, JPEG, WebP, GIF or BMP`);
  }
  if (file.size > pictureBytesMax) {
    const mib = (file.size / 1024 / 1024).toFixed(1);
    throw new RangeError(`Cannot use ${file.name}: ${mib} MiB exceeds 32 MiB`);
  }
  const url = await dataUrl(file);
  const image = new Image();
  image.src = url;
  try {
    await image.decode();
  } catch (cause) {
    throw new TypeError(`Cannot read ${file.name}: it is damaged or not a picture`, { cause });
  }
  const { naturalWidth: widthPixels, naturalHeight: heightPixels } = image;
  return { id, name: file.name, url, widthPixels, heightPixels };
}

function dataUrl(file: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result));
    reader.onerror = () => reject(reader.error ?? new TypeError("Cannot read the file"));
    reader.readAsDataURL(file);
  });
}
