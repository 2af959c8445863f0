import assert from "node:assert/strict";
import { StepCost } from "./step_cost.ts";

Deno.test("StepCost.ms() gives the mean of what was measured, and lines between", () => {
  const cost = new StepCost();
  assert.equal(cost.ms(1), undefined);
  cost.observe(1, 10);
  cost.observe(9, 18);
  assert.equal(cost.ms(1), 10);
  assert.equal(cost.ms(5), 14);
  cost.observe(9, 26);
  assert.equal(cost.ms(9), 20);
  assert.equal(cost.ms(0), 10);
});

Deno.test("StepCost.ms() lets rows that were never tried look cheap, but not free", () => {
  const cost = new StepCost();
  cost.observe(2, 10);
  assert.ok(cost.ms(6)! > 10 && cost.ms(6)! < 15);
});

Deno.test("StepCost is hardly moved by one disturbed step", () => {
  const cost = new StepCost();
  for (let i = 0; i < 10; i++) cost.observe(1, 10);
  cost.observe(1, 1000);
  assert.ok(cost.ms(1)! <= 12.5);
});
