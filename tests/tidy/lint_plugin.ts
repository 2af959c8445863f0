/** House rules as a Deno lint plugin: function length, ambient time, module state, pure files. */

const FUNCTION_LINES_MAX = 70;

type Rule = Deno.lint.Rule;
type Context = Deno.lint.RuleContext;

/** Lines that a node spans. */
function lineCount(context: Context, node: Deno.lint.Node): number {
  const [start, end] = node.range;
  return context.sourceCode.text.slice(start, end).split("\n").length;
}

/** Long functions hide their steps; tests that only list steps count too. */
const functionLength: Rule = {
  create(context) {
    const check = (node: Deno.lint.Node) => {
      const lines = lineCount(context, node);
      if (lines <= FUNCTION_LINES_MAX) return;
      context.report({
        node,
        message: `This function has ${lines} lines, more than ${FUNCTION_LINES_MAX}`,
        hint: "Name its steps as functions of their own",
      });
    };
    return {
      FunctionDeclaration: check,
      FunctionExpression: check,
      ArrowFunctionExpression: check,
    };
  },
};

/** What must be handed in, with its replacement. */
const ambient: Readonly<Record<string, string>> = {
  "Date.now": "Take a Clock (src/clock.ts)",
  "performance.now": "Take a Clock (src/clock.ts)",
  "Math.random": "Use src/random.ts with a seed",
};

/** Files under src that own time, randomness or the terminal. */
const ambientOwners = [
  /\/src\/clock\.ts$/,
  /\/src\/random\.ts$/,
  /\/src\/telemetry\/log\.ts$/,
  /\/src\/cli\//,
];

function mayUseAmbient(filename: string): boolean {
  const path = filename.replaceAll("\\", "/");
  return !path.includes("/src/") || /_(test|bench)\.tsx?$/.test(path) ||
    ambientOwners.some((owner) => owner.test(path));
}

const noAmbient: Rule = {
  create(context) {
    if (mayUseAmbient(context.filename)) return {};
    return {
      MemberExpression(node) {
        if (node.object.type !== "Identifier" || node.property.type !== "Identifier") return;
        const name = `${node.object.name}.${node.property.name}`;
        const hint = node.object.name === "console" ? "Use src/telemetry/log.ts" : ambient[name];
        if (hint) context.report({ node, message: `${name} is not for this file`, hint });
      },
      NewExpression(node) {
        if (node.callee.type !== "Identifier" || node.callee.name !== "Date") return;
        if (node.arguments.length > 0) return;
        const message = "new Date() reads the wall clock";
        context.report({ node, message, hint: "Take a Clock (src/clock.ts)" });
      },
    };
  },
};

/** Module-level `let` is state that tests and servers would share without saying so. */
const noModuleState: Rule = {
  create(context) {
    return {
      VariableDeclaration(node) {
        const atTop = node.parent.type === "Program" ||
          node.parent.type === "ExportNamedDeclaration";
        if (!atTop || node.kind === "const" || node.declare) return;
        context.report({
          node,
          message: `Module-level ${node.kind} is mutable state`,
          hint: "Put it into an instance that is passed in",
        });
      },
    };
  },
};

/** Files that a simulator drives step by step: they decide, others wait and act. */
const synchronousFiles = [
  /\/src\/engine\/(scheduler|step_planner|kv_pages|prefix_cache|encoder_cache|plan)\.ts$/,
  /\/src\/cluster\/(placement|membership|planner|packing|balancing|draft|plan_fit|load|entropy)\.ts$/,
  /\/src\/cluster\/(replica_choice|calls|call_shares|node_health|hedge_budget|expert_grid)\.ts$/,
  /\/src\/cluster\/(holdings|coordinator|member_table|lease_keeper|member_text|bounds)\.ts$/,
  /\/src\/media\/tiling\.ts$/,
];

const synchronous: Rule = {
  create(context) {
    const path = context.filename.replaceAll("\\", "/");
    if (!synchronousFiles.some((file) => file.test(path))) return {};
    const report = (node: Deno.lint.Node, what: string) => {
      const hint = "Return data that says what to do, and let the caller wait for it";
      context.report({ node, message: `${what} in a file that must stay synchronous`, hint });
    };
    const checkFunction = (
      node:
        | Deno.lint.FunctionDeclaration
        | Deno.lint.FunctionExpression
        | Deno.lint.ArrowFunctionExpression,
    ) => {
      if (node.async) report(node, "async function");
    };
    return {
      FunctionDeclaration: checkFunction,
      FunctionExpression: checkFunction,
      ArrowFunctionExpression: checkFunction,
      AwaitExpression: (node) => report(node, "await"),
      Identifier(node) {
        if (/^(setTimeout|setInterval|queueMicrotask|Promise)$/.test(node.name)) {
          report(node, node.name);
        }
      },
    };
  },
};

const plugin: Deno.lint.Plugin = {
  name: "tidy",
  rules: {
    "function-length": functionLength,
    "no-ambient": noAmbient,
    "no-module-state": noModuleState,
    synchronous,
  },
};

export default plugin;
