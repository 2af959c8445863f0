/** Writing to the terminal: results to standard output, trouble to standard error. */

const encoder = new TextEncoder();

export function printText(text: string): void {
  Deno.stdout.writeSync(encoder.encode(text));
}

export function printLine(text: string): void {
  printText(`${text}\n`);
}

export function printError(text: string): void {
  Deno.stderr.writeSync(encoder.encode(`${text}\n`));
}
