import assert from "node:assert/strict";
import { OperatingError } from "@/errors.ts";
import { BodyBudget } from "./body_budget.ts";

Deno.test("BodyBudget refuses what all requests together cannot hold, until one ends", () => {
  const budget = new BodyBudget(100);
  const [first, second] = [budget.share(), budget.share()];
  first.hold(60);
  first.hold(40); // less than it has
  second.hold(40);
  assert.equal(budget.heldBytes, 100);
  assert.throws(() => second.hold(41), (error) => {
    assert.ok(error instanceof OperatingError && error.code === "overloaded");
    assert.match(error.message, /101 bytes .* exceed 100/);
    return true;
  });
  first.release();
  first.release();
  second.hold(41);
  assert.equal(budget.heldBytes, 41);
  second.release();
  assert.equal(budget.heldBytes, 0);
});
