import { deepEqual, throws } from "node:assert/strict";
import type { OperatingError } from "@/errors.ts";
import { parseFileList } from "./file_list.ts";

const sha256 = "0".repeat(64);
const file = { name: "config.json", bytes: 3, sha256 };

Deno.test("parseFileList() reads a list", () => {
  const list = { model: "nano", files: [file, { ...file, name: "model-1.safetensors" }] };
  deepEqual(parseFileList(JSON.stringify(list), "list"), list);
});

Deno.test("parseFileList() refuses what is no list, and names that leave the folder", () => {
  const wrong: unknown[] = [
    null,
    { files: [file] },
    { model: "nano", files: [] },
    { model: "nano", files: [null] },
    { model: "nano", files: [file, file] },
    { model: "nano", files: new Array(5000).fill(file) },
    ...["../config.json", "a\\b", "..", ""].map((name) => ({
      model: "nano",
      files: [{ ...file, name }],
    })),
    { model: "nano", files: [{ ...file, bytes: -1 }] },
    { model: "nano", files: [{ ...file, sha256: "0" }] },
  ];
  for (const text of ["", "{", ...wrong.map((value) => JSON.stringify(value))]) {
    throws(
      () => parseFileList(text, "the list"),
      (error: OperatingError) =>
        error.code === "checkpoint_invalid" && error.message.includes("the list"),
      text,
    );
  }
});
