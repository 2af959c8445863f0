/**
 * Mathematical expressions in LaTeX or plain notation: tokens, the grammar of sums, products, powers
 * and functions, and the tree they become. Numbers, not their meaning: `expression_value.ts`.
 */

export type Expression =
  | { readonly kind: "number"; readonly value: number; readonly isDecimal: boolean }
  | { readonly kind: "symbol"; readonly name: string }
  | { readonly kind: "call"; readonly name: string; readonly of: readonly Expression[] };

/** Thrown for text that is no expression; caught by `parseExpression`. */
class NoExpression extends Error {}

const call = (name: string, ...of: Expression[]): Expression => ({ kind: "call", name, of });

/** The tree of a whole text; undefined when it is no expression. */
export function parseExpression(text: string): Expression | undefined {
  try {
    const parser = new Parser(tokensOf(text));
    const tree = parser.sum();
    return parser.atEnd ? tree : undefined;
  } catch (error) {
    if (error instanceof NoExpression) return undefined;
    throw error;
  }
}

const TOKEN =
  /\s+|(\d+(?:\.\d+)?|\.\d+)|\\([a-zA-Z]+)|([a-zA-Z])|(\*\*|[-+*/^_!|(){}[\],:])|(.)/gsu;

interface Token {
  readonly kind: "number" | "command" | "letter" | "sign";
  readonly text: string;
  /** White space stands before it: `1 1/2` is one and a half. */
  readonly spaced: boolean;
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let spaced = false;
  for (const [whole, number, command, letter, sign] of text.matchAll(TOKEN)) {
    if (number !== undefined) tokens.push({ kind: "number", text: number, spaced });
    else if (command !== undefined) tokens.push({ kind: "command", text: command, spaced });
    else if (letter !== undefined) tokens.push({ kind: "letter", text: letter, spaced });
    else if (sign !== undefined) tokens.push({ kind: "sign", text: sign, spaced });
    else if (whole.trim() === "") {
      spaced = true;
      continue;
    } else if (whole === "π") tokens.push({ kind: "command", text: "pi", spaced });
    else if (whole === "×" || whole === "·") tokens.push({ kind: "sign", text: "*", spaced });
    else if (whole === "÷") tokens.push({ kind: "sign", text: "/", spaced });
    else if (whole === "√") tokens.push({ kind: "command", text: "sqrt", spaced });
    else if (whole === "∞") tokens.push({ kind: "command", text: "infty", spaced });
    else if (whole === "−") tokens.push({ kind: "sign", text: "-", spaced });
    else throw new NoExpression(`unexpected ${whole}`);
    spaced = false;
  }
  return tokens;
}

const functions = new Set(
  "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh exp ln log lg max min gcd lcm".split(
    " ",
  ),
);
const greek = new Set(
  "alpha beta gamma delta epsilon theta lambda mu nu rho sigma tau phi varphi omega psi xi eta zeta"
    .split(" "),
);

class Parser {
  readonly #tokens: readonly Token[];
  #at = 0;
  #depth = 0;

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens;
  }

  get atEnd(): boolean {
    return this.#at === this.#tokens.length;
  }

  sum(): Expression {
    if (++this.#depth > 60) throw new NoExpression("too deep");
    let left = this.#product();
    for (;;) {
      if (this.#take("+")) left = call("add", left, this.#product());
      else if (this.#take("-")) left = call("subtract", left, this.#product());
      else break;
    }
    this.#depth--;
    return left;
  }

  #product(): Expression {
    let left = this.#unary();
    for (;;) {
      if (this.#take("*") || this.#command("cdot") || this.#command("times")) {
        left = call("multiply", left, this.#unary());
      } else if (this.#take("/") || this.#take(":") || this.#command("div")) {
        left = call("divide", left, this.#unary());
      } else if (this.#startsFactor()) left = this.#implicit(left);
      else return left;
    }
  }

  /** Neighbours multiply, but a whole number before a fraction is a mixed number. */
  #implicit(left: Expression): Expression {
    const next = this.#tokens[this.#at]!;
    const isWhole = left.kind === "number" && !left.isDecimal;
    const isFraction = next.kind === "command" && /^[dtc]?frac$/.test(next.text);
    const right = this.#power();
    if (isWhole && isFraction && isPlainFraction(right)) return call("add", left, right);
    if (isWhole && next.kind === "number" && next.spaced && this.#take("/")) {
      return call("add", left, call("divide", right, this.#power()));
    }
    return call("multiply", left, right);
  }

  #unary(): Expression {
    if (this.#take("-")) return call("negate", this.#unary());
    if (this.#take("+")) return this.#unary();
    return this.#power();
  }

  #power(): Expression {
    let base = this.#postfix();
    if (this.#take("^") || this.#take("**")) {
      const exponent = this.#take("-") ? call("negate", this.#power()) : this.#power();
      base = call("power", base, exponent);
      while (this.#take("!")) base = call("factorial", base);
    }
    return base;
  }

  #postfix(): Expression {
    let value = this.#atom();
    while (this.#take("!")) value = call("factorial", value);
    return value;
  }

  #atom(): Expression {
    const token = this.#tokens[this.#at++];
    if (!token) throw new NoExpression("it ends early");
    if (token.kind === "number") {
      return { kind: "number", value: Number(token.text), isDecimal: token.text.includes(".") };
    }
    if (token.kind === "letter") return this.#subscripted(token.text);
    if (token.kind === "command") return this.#commandAtom(token.text);
    const closing = { "(": ")", "{": "}", "[": "]", "|": "|" }[token.text];
    if (closing === undefined) throw new NoExpression(`unexpected ${token.text}`);
    const inside = this.sum();
    this.#expect(closing);
    return token.text === "|" ? call("abs", inside) : inside;
  }

  #subscripted(name: string): Expression {
    if (!this.#take("_")) return { kind: "symbol", name };
    const token = this.#tokens[this.#at++];
    if (token?.text === "{") {
      let index = "";
      while (!this.#take("}")) {
        index += this.#tokens[this.#at++]?.text ?? this.#fail("it ends early");
      }
      return { kind: "symbol", name: `${name}_${index}` };
    }
    return { kind: "symbol", name: `${name}_${token?.text ?? this.#fail("it ends early")}` };
  }

  #commandAtom(name: string): Expression {
    if (/^[dtc]?frac$/.test(name)) return call("divide", this.#argument(), this.#argument());
    if (/^[dt]?binom$/.test(name)) return call("binomial", this.#argument(), this.#argument());
    if (name === "sqrt") {
      if (!this.#take("[")) return call("power", this.#argument(), half);
      const degree = this.sum();
      this.#expect("]");
      return call("power", this.#argument(), call("divide", one, degree));
    }
    if (name === "lfloor" || name === "lceil") {
      const inside = this.sum();
      if (!this.#command(name.replace("l", "r"))) throw new NoExpression(`\\${name} is not closed`);
      return call(name === "lfloor" ? "floor" : "ceiling", inside);
    }
    if (name === "pi" || name === "infty" || greek.has(name)) return this.#subscripted(name);
    if (functions.has(name)) return this.#function(name);
    throw new NoExpression(`unknown \\${name}`);
  }

  /** `\sin x`, `\sin^2 x`, `\log_2 8`, `\sin(…)`. */
  #function(name: string): Expression {
    const base = name === "log" && this.#take("_") ? this.#argument() : undefined;
    const exponent = this.#take("^") ? this.#argument() : undefined;
    const argument = this.#startsFactor() ? this.#power() : this.#unary();
    const value = base ? call("log_base", base, argument) : call(name, argument);
    return exponent ? call("power", value, exponent) : value;
  }

  /** `{…}` or one token: `\frac12`. */
  #argument(): Expression {
    const token = this.#tokens[this.#at];
    if (token?.kind === "number" && token.text.length > 1 && !token.text.includes(".")) {
      // One digit only; the rest stays a token.
      const rest: Token = { ...token, text: token.text.slice(1), spaced: false };
      (this.#tokens as Token[]).splice(this.#at, 1, { ...token, text: token.text[0]! }, rest);
    }
    return this.#atom();
  }

  #startsFactor(): boolean {
    const token = this.#tokens[this.#at];
    if (!token) return false;
    if (token.kind === "sign") return token.text === "(" || token.text === "{";
    if (token.kind !== "command") return true;
    return !["cdot", "times", "div", "rfloor", "rceil"].includes(token.text);
  }

  #take(text: string): boolean {
    const token = this.#tokens[this.#at];
    if (token?.kind !== "sign" || token.text !== text) return false;
    this.#at++;
    return true;
  }

  #command(name: string): boolean {
    const token = this.#tokens[this.#at];
    if (token?.kind !== "command" || token.text !== name) return false;
    this.#at++;
    return true;
  }

  #expect(text: string): void {
    if (!this.#take(text)) throw new NoExpression(`expected ${text}`);
  }

  #fail(problem: string): never {
    throw new NoExpression(problem);
  }
}

const one: Expression = { kind: "number", value: 1, isDecimal: false };
const half = call("divide", one, { kind: "number", value: 2, isDecimal: false });

function isPlainFraction(node: Expression): boolean {
  return node.kind === "call" && node.name === "divide" &&
    node.of.every((part) => part.kind === "number");
}
