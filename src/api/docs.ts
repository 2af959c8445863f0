/** `GET /docs`: the OpenAPI document as one plain page. No script, nothing from elsewhere. */
import { html, raw } from "hono/html";
import type { AppContext } from "./exchange.ts";
import { openApiDocument } from "./openapi.ts";
import type { Services } from "./services.ts";

interface JsonSchema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly maximum?: number;
  readonly anyOf?: readonly JsonSchema[];
  readonly oneOf?: readonly JsonSchema[];
  readonly items?: JsonSchema;
  readonly properties?: Readonly<Record<string, JsonSchema>>;
  readonly required?: readonly string[];
}

const STYLE = `
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
h2 { font-size: 1.1rem; margin-top: 2rem; border-top: 1px solid #8884; padding-top: 1rem }
code { font: 0.9em ui-monospace, monospace }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; vertical-align: top; padding: 0.2rem 0.6rem 0.2rem 0 }
:root { color-scheme: light dark }
`;

export async function handleDocs(context: AppContext, { version }: Services): Promise<Response> {
  return context.html(await renderPage(version));
}

function renderPage(version: string) {
  const { info, paths, components } = openApiDocument(version);
  const schemas = components.schemas as Record<string, JsonSchema>;
  const sections = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, operation]) =>
      renderOperation(`${method.toUpperCase()} ${path}`, operation as OperationView, schemas)
    )
  );
  return html`
    <!DOCTYPE html>
    <html lang="en">
      <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <title>${info.title} API</title>
        <style>${raw(STYLE)}</style>
      </head>
      <body>
            <h1>${info.title} API ${info.version}</h1>
            <p>${info.description}. The same as data: <a href="/openapi.json">/openapi.json</a>.</p>
            ${sections}
          </body>
    </html>
  `;
}

interface OperationView {
  readonly summary: string;
  readonly requestBody?: {
    readonly content: Record<string, { readonly schema: { readonly $ref: string } }>;
  };
}

function renderOperation(
  title: string,
  { summary, requestBody }: OperationView,
  schemas: Readonly<Record<string, JsonSchema>>,
) {
  const reference = requestBody?.content["application/json"]?.schema.$ref.split("/").at(-1);
  const schema = reference === undefined ? undefined : schemas[reference];
  return html`<section>
    <h2><code>${title}</code></h2>
    <p>${summary}.</p>
    ${schema === undefined ? "" : renderFields(schema)}
  </section>`;
}

function renderFields({ properties = {}, required = [] }: JsonSchema) {
  const rows = Object.entries(properties).map(([name, schema]) =>
    html`
      <tr>
        <td><code>${name}</code>${required.includes(name) ? " (required)" : ""}</td>
        <td>${describeType(schema)}</td>
        <td>${schema.description ?? ""}</td>
      </tr>
    `
  );
  return html`<table>
    <tr><th>Field</th><th>Type</th><th>Meaning</th></tr>
    ${rows}
  </table>`;
}

function describeType(schema: JsonSchema): string {
  const branches = schema.anyOf ?? schema.oneOf;
  if (branches !== undefined) {
    const names = branches.map(describeType).filter((name) => name !== "null");
    return [...new Set(names)].join(" or ");
  }
  if (schema.enum !== undefined) {
    return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${describeType(schema.items ?? {})}`;
  return `${schema.type ?? "any"}${describeRange(schema)}`;
}

function describeRange({ type, minimum, exclusiveMinimum, maximum }: JsonSchema): string {
  if (type !== "number" && type !== "integer") return "";
  const bounds = [
    minimum === undefined || minimum <= Number.MIN_SAFE_INTEGER ? "" : `from ${minimum}`,
    exclusiveMinimum === undefined ? "" : `above ${exclusiveMinimum}`,
    maximum === undefined || maximum >= Number.MAX_SAFE_INTEGER ? "" : `to ${maximum}`,
  ].filter((bound) => bound !== "");
  return bounds.length === 0 ? "" : ` ${bounds.join(" ")}`;
}
