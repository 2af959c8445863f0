/**
 * The HTTP application: middleware around one table of routes. Every answer, also for unknown paths
 * and methods, comes from here; starting a server is the command line's business.
 */
import { Hono } from "hono";
import { cors } from "hono/cors";
import { assert } from "@/assert.ts";
import { OperatingError } from "@/errors.ts";
import { KeyGuard } from "./auth.ts";
import { type AppContext, type AppEnv, Exchange } from "./exchange.ts";
import { type Route, ROUTES } from "./routes.ts";
import { type AppDependencies, Services } from "./services.ts";

export type { AppDependencies } from "./services.ts";

/**
 * The application. Pages of the composition root (the playground) may be added to it afterwards:
 * they need no key, while unknown paths do.
 */
export function createApp(dependencies: AppDependencies): Hono<AppEnv> {
  assert(dependencies.models.length > 0, "an app serves at least one model");
  const services = new Services(dependencies);
  const guard = new KeyGuard(dependencies.apiKeys ?? []);
  const app = new Hono<AppEnv>();
  app.use("*", async (context, next) => {
    const exchange = new Exchange(context.req.raw, services);
    context.set("exchange", exchange);
    await next();
    context.header("x-request-id", exchange.id);
    exchange.answered(context.res.status);
  });
  const origins = dependencies.corsOrigins ?? [];
  if (origins.length > 0) app.use("*", cors({ origin: [...origins] }));
  for (const route of ROUTES) addRoute(app, route, { services, guard });
  for (const path of new Set(ROUTES.map((route) => route.path))) addMethodAnswer(app, path);
  app.notFound((context) => {
    const { exchange } = context.var;
    try {
      guard.check(context.req.raw);
    } catch (error) {
      return exchange.fail(error);
    }
    return exchange.fail(
      new OperatingError("not_found", `Path ${context.req.path} does not exist`),
    );
  });
  app.onError((error, context) => context.var.exchange.fail(error));
  return app;
}

function addRoute(
  app: Hono<AppEnv>,
  { method, path, handler, isPublic }: Route,
  { services, guard }: { services: Services; guard: KeyGuard },
): void {
  app.on(method, path, (context: AppContext) => {
    context.var.exchange.route = path;
    if (!isPublic) guard.check(context.req.raw);
    return handler(context, services);
  });
}

/** A known path with another method: 405, or what OPTIONS asks for. */
function addMethodAnswer(app: Hono<AppEnv>, path: string): void {
  const methods = ROUTES.filter((route) => route.path === path).map((route) => route.method);
  const allow = [...methods, ...(methods.includes("GET") ? ["HEAD"] : []), "OPTIONS"].join(", ");
  app.all(path, (context) => {
    const { exchange } = context.var;
    exchange.route = path;
    const { method } = context.req;
    const response = method === "OPTIONS" ? new Response(null, { status: 204 }) : exchange.fail(
      new OperatingError(
        "method_not_allowed",
        `Method ${method} is not allowed for ${path}, only ${allow}`,
      ),
    );
    response.headers.set("allow", allow);
    return response;
  });
}
