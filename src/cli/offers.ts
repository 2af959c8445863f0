/** Which served models' files pages may load, to run the models themselves. */
import type { ModelOffer } from "@/api/model_files.ts";
import { diskFolder } from "@/weights/disk_folder.ts";
import { hashOf } from "@/weights/file_hash.ts";
import type { FileList, ListedFile } from "@/weights/file_list.ts";

/** What loading a model reads: nothing else that lies in its folder is given out. */
const MODEL_FILE = /^([\w.-]+\.safetensors|[\w.-]+\.json|merges\.txt|chat_template\.jinja)$/;

/** The files of a model folder; hashed once, when a page first asks for them. */
export function offerFolder(model: string, path: string): ModelOffer {
  const folder = diskFolder(path);
  let list: Promise<FileList> | undefined;
  const hashAll = async (): Promise<FileList> => {
    const names = (await folder.names()).filter((name) => MODEL_FILE.test(name)).sort();
    const files: ListedFile[] = [];
    for (const name of names) {
      const source = await folder.open(name);
      try {
        files.push({ name, bytes: source.sizeBytes, sha256: await hashOf(source) });
      } finally {
        source.close();
      }
    }
    return { model, files };
  };
  return {
    list: () => {
      list ??= hashAll().catch((error) => {
        list = undefined; // the next page may have more luck
        throw error;
      });
      return list;
    },
    open: (name) => folder.open(name),
  };
}
