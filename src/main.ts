/** Entry point: hands the command line to the command. */
import { run } from "@/cli/run.ts";

if (import.meta.main) Deno.exitCode = await run(Deno.args);
