/**
 * `GET /openapi.json`: the OpenAPI 3.1 document, made from the same schemas that check the requests
 * and from the table below.
 */
import * as z from "zod";
import type { AppContext } from "./exchange.ts";
import {
  chatCompletionSchema,
  completionSchema,
  detokenizeSchema,
  drainSchema,
  renderSchema,
  tokenizeSchema,
} from "./schema.ts";
import type { Services } from "./services.ts";

interface Operation {
  readonly method: "get" | "post";
  readonly path: string;
  readonly summary: string;
  readonly body?: z.ZodType;
  /** Names and meanings of query parameters. */
  readonly query?: Readonly<Record<string, string>>;
  /** Status of the answer; default 200. */
  readonly status?: number;
  /** Media types of the answer; default JSON. */
  readonly answers?: readonly string[];
  readonly isPublic?: true;
}

const JSON_TYPE = "application/json";
const STREAMED = [JSON_TYPE, "text/event-stream"];

/** What the document tells about each route; a test compares it with the table of routes. */
export const OPERATIONS: readonly Operation[] = [
  {
    method: "post",
    path: "/v1/chat/completions",
    summary: "Answer a conversation with texts, pictures and videos",
    body: chatCompletionSchema,
    answers: STREAMED,
  },
  {
    method: "post",
    path: "/v1/completions",
    summary: "Continue raw prompts: texts or token ids",
    body: completionSchema,
    answers: STREAMED,
  },
  { method: "get", path: "/v1/models", summary: "List the served models" },
  { method: "get", path: "/v1/models/{id}", summary: "Describe one model" },
  {
    method: "get",
    path: "/web/models/{id}/{name}",
    summary: "A file of a model, for pages that run it themselves; files.json lists them",
    answers: ["application/octet-stream", JSON_TYPE],
  },
  {
    method: "post",
    path: "/tokenize",
    summary: "Token ids of a text or a conversation",
    body: tokenizeSchema,
  },
  { method: "post", path: "/detokenize", summary: "Text of token ids", body: detokenizeSchema },
  {
    method: "post",
    path: "/render",
    summary: "The prompt of a conversation with its pictures' places, without inference",
    body: renderSchema,
  },
  {
    method: "get",
    path: "/cluster/status",
    summary: "Shards, plan, coverage, balance, calls and expert-activation entropy",
  },
  {
    method: "get",
    path: "/cluster/experts",
    summary: "Owners and load of every expert, by layer",
    query: { layer: "One layer; default all" },
  },
  {
    method: "post",
    path: "/cluster/drain",
    summary: "Ask a shard to give its experts away, or to take some again",
    body: drainSchema,
    status: 202,
  },
  {
    method: "post",
    path: "/cluster/rebalance",
    summary: "Plan anew, also when the gain does not pay for the transfer",
    status: 202,
  },
  { method: "get", path: "/livez", summary: "Whether the process answers", isPublic: true },
  { method: "get", path: "/readyz", summary: "Whether it wants requests", isPublic: true },
  {
    method: "get",
    path: "/metrics",
    summary: "Metrics in Prometheus text format",
    answers: ["text/plain"],
  },
  { method: "get", path: "/version", summary: "Version and uptime" },
  { method: "get", path: "/openapi.json", summary: "This document" },
  { method: "get", path: "/docs", summary: "This document to read", answers: ["text/html"] },
];

const ERROR_SCHEMA = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string" },
        type: { type: "string" },
        param: { type: ["string", "null"], description: "Path of the offending field" },
        code: { type: "string" },
      },
    },
  },
};

export function handleOpenApi(_context: AppContext, { version }: Services): Response {
  return Response.json(openApiDocument(version));
}

/** The whole document, as plain data. */
export function openApiDocument(version: string) {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const operation of OPERATIONS) {
    const entry = paths[operation.path] ??= {};
    entry[operation.method] = describeOperation(operation);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Flotilla",
      version,
      description: "Vision-language models behind the OpenAI API",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    paths,
    components: {
      schemas: { ...bodySchemas(), Error: ERROR_SCHEMA },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
    security: [{}, { key: [] }],
  };
}

function parametersOf({ path, query = {} }: Operation) {
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => {
    return { name, in: "path", required: true, schema: { type: "string" } };
  });
  const inQuery = Object.entries(query).map(([name, description]) => {
    return { name, in: "query", required: false, description, schema: { type: "string" } };
  });
  return [...inPath, ...inQuery];
}

function describeOperation(operation: Operation) {
  const { summary, body, status = 200, answers, isPublic } = operation;
  const parameters = parametersOf(operation);
  const content = Object.fromEntries((answers ?? [JSON_TYPE]).map((type) => [type, {}]));
  const errorContent = { [JSON_TYPE]: { schema: { $ref: "#/components/schemas/Error" } } };
  return {
    summary,
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(body === undefined ? {} : {
      requestBody: {
        required: true,
        content: { [JSON_TYPE]: { schema: { $ref: `#/components/schemas/${schemaId(body)}` } } },
      },
    }),
    responses: {
      [status]: { description: "The answer", content },
      "4XX": { description: "The request is refused", content: errorContent },
      "5XX": { description: "The server failed", content: errorContent },
    },
    ...(isPublic ? { security: [] } : {}),
  };
}

function bodySchemas(): Record<string, unknown> {
  const bodies = OPERATIONS.flatMap(({ body }) => body === undefined ? [] : [body]);
  // A schema with an id comes as its one definition and a reference to it.
  return Object.assign({}, ...bodies.map((body) => z.toJSONSchema(body, { io: "input" }).$defs));
}

function schemaId(body: z.ZodType): string {
  return String(body.meta()?.id);
}
