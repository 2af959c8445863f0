/** The look of a run's report: one style sheet, light and dark. */

export const reportStyle = `
:root {
  --paper: #f7f7f5; --card: #fff; --ink: #1c1d20; --quiet: #6b6f76; --line: #e4e4e0;
  --tone0: #2f62c9; --tone1: #c4621a; --tone2: #2a8a5a; --tone3: #8a4fb5;
  --good: #2a8a5a; --bad: #c23b3b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131416; --card: #1c1e21; --ink: #e8e9eb; --quiet: #9aa0a8; --line: #2e3136;
    --tone0: #7ba4ff; --tone1: #f0a266; --tone2: #69c597; --tone3: #c79bea;
    --good: #69c597; --bad: #f08080;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; font-variant-numeric: tabular-nums;
}
main { max-width: 88rem; margin: 0 auto; padding: 1.6rem 1.2rem 3rem; }
h1 { margin: 0; font-size: 1.5rem; font-weight: 650; }
h2 { margin: 0 0 0.5rem; font-size: 1.05rem; font-weight: 650; }
small, .note, .quiet { color: var(--quiet); font-size: 0.82rem; font-weight: 400; }
.note { margin: 0.1rem 0 0; }
.state {
  margin-left: 0.4rem; padding: 0.1rem 0.6rem; border-radius: 1rem; vertical-align: 0.2em;
  font-size: 0.75rem; font-weight: 500; color: var(--card); background: var(--tone0);
}
.state.done { background: var(--good); }
.state.stopped { background: var(--quiet); }
.progress { height: 6px; margin: 0.9rem 0; border-radius: 3px; background: var(--line); overflow: hidden; }
.progress span { display: block; height: 100%; background: var(--tone0); }
dl { display: flex; flex-wrap: wrap; gap: 0.4rem 2rem; margin: 0 0 1.2rem; }
dt { color: var(--quiet); font-size: 0.78rem; }
dd { margin: 0; font-size: 1.1rem; font-weight: 600; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(21rem, 1fr)); gap: 1rem; }
figure, section, details {
  margin: 0; padding: 0.8rem 0.9rem; min-width: 0;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px;
}
section, details { margin-top: 1rem; }
figcaption { display: flex; align-items: baseline; gap: 0 0.5rem; white-space: nowrap; }
figcaption small { min-width: 0; overflow: hidden; text-overflow: ellipsis; }
.keys { margin-left: auto; font-size: 0.82rem; }
.key { margin-left: 0.7rem; color: var(--tone0); }
.key.tone1 { color: var(--tone1); } .key.tone2 { color: var(--tone2); } .key.tone3 { color: var(--tone3); }
svg { display: block; width: 100%; height: auto; margin-top: 0.3rem; overflow: visible; }
svg text { fill: var(--quiet); font: 11px system-ui, sans-serif; }
.grid { stroke: var(--line); }
.line { fill: none; stroke-width: 1.6; stroke-linejoin: round; stroke: var(--tone0); }
.band { opacity: 0.16; fill: var(--tone0); } circle.tone0 { fill: var(--tone0); }
.line.tone1 { stroke: var(--tone1); } .band.tone1, circle.tone1 { fill: var(--tone1); }
.line.tone2 { stroke: var(--tone2); } .band.tone2, circle.tone2 { fill: var(--tone2); }
.line.tone3 { stroke: var(--tone3); } .band.tone3, circle.tone3 { fill: var(--tone3); }
.mark line { stroke: var(--quiet); stroke-dasharray: 2 3; opacity: 0.6; }
.mark circle { fill: var(--quiet); }
.mark.good line { stroke: var(--good); } .mark.good circle { fill: var(--good); }
.mark.bad line { stroke: var(--bad); } .mark.bad circle { fill: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.88rem; }
th, td { padding: 0.2rem 1.2rem 0.2rem 0; text-align: left; font-weight: 400; white-space: nowrap; }
tr > th { color: var(--quiet); }
.number { text-align: right; }
.bar { display: inline-block; width: 10rem; height: 6px; border-radius: 3px; background: var(--line); overflow: hidden; }
.bar span { display: block; height: 100%; background: var(--tone2); }
.good, .accept { color: var(--good); } .bad, .reject, .abort, .lower { color: var(--bad); }
.answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: 0.8rem 1.4rem; }
article { min-width: 0; border-top: 1px solid var(--line); padding-top: 0.4rem; }
article p { margin: 0; overflow-wrap: anywhere; }
.answer { font-weight: 600; white-space: pre-wrap; }
.wanted { color: var(--quiet); white-space: pre-wrap; }
.wanted::before { content: "expected "; font-size: 0.82rem; }
.question { font-size: 0.9rem; }
summary { cursor: pointer; }
pre { overflow-x: auto; font-size: 0.8rem; }
`;
