/** Opens a recipe by the name of a shipped one or from a JSON file. */
import { basename, dirname, resolve } from "node:path";
import { OperatingError } from "@/errors.ts";
import { parseRecipe, type Recipe } from "./recipe.ts";
import { shippedRecipe } from "./recipe_book.ts";

/** `where` is a path when it ends in `.json`, else a name; a file's name names its recipe. */
export async function openRecipe(where: string): Promise<Recipe> {
  if (!where.endsWith(".json")) return shippedRecipe(where);
  const refuse = (verb: string, cause: unknown) =>
    new OperatingError("invalid_request", `Cannot ${verb} the recipe ${where}`, { cause });
  let text: string;
  try {
    text = await Deno.readTextFile(where);
  } catch (cause) {
    throw refuse("read", cause);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw refuse("parse", cause);
  }
  const name = basename(where, ".json").toLowerCase().replaceAll(/[^a-z0-9_-]/g, "_");
  return withFilesFrom(dirname(where), parseRecipe(json, { label: where, name }));
}

/** The recipe with the paths of its data files made absolute. */
function withFilesFrom(folder: string, recipe: Recipe): Recipe {
  if (recipe.kind === "soup" || !recipe.data.files) return recipe;
  const files = recipe.data.files.map((file) => ({ ...file, path: resolve(folder, file.path) }));
  return { ...recipe, data: { ...recipe.data, files } };
}
