/**
 * The letter shapes of the built-in typefaces: one recipe per character, drawn with the strokes of
 * `glyph_builder.ts` in whatever design is asked for. Coordinates are ems, y up from the baseline.
 */
import type { GlyphBuilder } from "./glyph_builder.ts";

type Recipe = (g: GlyphBuilder) => void;

const lower: Record<string, Recipe> = {
  a: (g) => {
    g.wide(0.46);
    const X = g.d.xHeight;
    if (g.d.aStoreys === 1) {
      g.bowl(0, 0, g.w, X);
      return g.stem(g.r, 0, X, "b");
    }
    const ry = X * 0.32 - g.d.rv;
    g.arc(g.m, X - g.d.rv - ry, g.r - g.m, ry, 155, 0);
    g.stem(g.r, 0, X - ry - g.d.rv + 0.01, "b");
    const half = X * 0.3;
    g.arc(g.m, half, g.m - g.l, half - g.d.rv, 90, 270);
    g.bar(g.m, g.r, 2 * half - g.d.rv);
    g.arc(g.m, half, g.r - g.m, half - g.d.rv, 270, 330);
  },
  b: (g) => {
    g.wide(0.5);
    g.stem(g.l, 0, g.d.ascender, "l");
    g.bowl(0, 0, g.w, g.d.xHeight);
  },
  c: (g) => {
    g.wide(0.45);
    const X = g.d.xHeight;
    g.arc(g.m, X / 2, g.m - g.l, X / 2 - g.d.rv, g.d.aperture, 360 - g.d.aperture);
  },
  d: (g) => {
    g.wide(0.5);
    g.stem(g.r, 0, g.d.ascender, "lb");
    g.bowl(0, 0, g.w, g.d.xHeight);
  },
  e: (g) => {
    g.wide(0.48);
    const X = g.d.xHeight;
    g.arc(g.m, X / 2, g.m - g.l, X / 2 - g.d.rv, 0, 360 - g.d.aperture);
    g.bar(g.l, g.r + g.d.rh, X * 0.5);
  },
  f: (g) => {
    g.wide(0.3);
    const stem = g.w * 0.42;
    const ry = g.d.ascender * 0.2;
    const rx = g.w - stem;
    g.stem(stem, 0, g.d.ascender - g.d.rv - ry + 0.01, "b");
    g.arc(stem + rx, g.d.ascender - g.d.rv - ry, rx, ry, 180, 85);
    g.bar(0, g.w * 0.98, g.x);
  },
  g: (g) => {
    g.wide(0.5);
    const X = g.d.xHeight;
    const D = -g.d.descender;
    if (g.d.gStoreys === 1) {
      g.bowl(0, 0, g.w, X);
      const ry = g.d.descender * 0.62;
      g.stem(g.r, D + g.d.rv + ry, X);
      return g.arc(g.m, D + g.d.rv + ry, g.r - g.m, ry, 0, -150);
    }
    g.bowl(g.w * 0.04, X * 0.32, g.w * 0.86, X);
    g.bowl(0, D, g.w, X * 0.13);
    g.path([[g.w * 0.3, X * 0.36], [g.w * 0.14, X * 0.22], [g.w * 0.3, X * 0.11]]);
    g.bar(g.w * 0.72, g.w * 1.05, X - g.d.rv * 1.2);
  },
  h: (g) => {
    g.wide(0.5);
    g.stem(g.l, 0, g.d.ascender, "lb");
    g.arch(g.l, g.r, g.d.xHeight);
  },
  i: (g) => {
    stemWithDot(g, 0);
  },
  j: (g) => {
    g.wide(g.d.slabI ? 0.3 : 0.14);
    const ry = g.d.descender * 0.6;
    const rx = Math.max(g.d.rh * 1.6, 0.11 * g.d.width + g.d.rh * 0.5);
    g.stem(g.r, -g.d.descender + g.d.rv + ry, g.d.xHeight, "l");
    g.arc(g.r - rx, -g.d.descender + g.d.rv + ry, rx, ry, 0, -85);
    g.dot(g.r, g.d.xHeight + 0.19);
  },
  k: (g) => {
    g.wide(0.47);
    const X = g.d.xHeight;
    g.stem(g.l, 0, g.d.ascender, "lb");
    g.diagonal(g.l, X * 0.38, g.r - g.d.rh * 0.1, X);
    g.diagonal(g.l + (g.r - g.l) * 0.3, X * 0.56, g.r, 0);
    g.serif(g.r, 0, 1);
  },
  l: (g) => {
    const A = g.d.ascender;
    if (g.d.tailedL) {
      g.wide(0.2);
      const ry = 0.1;
      g.stem(g.l, ry + g.d.rv, A, "l");
      return g.arc(g.l + ry, ry + g.d.rv, ry, ry, 180, 275);
    }
    if (!g.d.slabI) {
      g.wide(0);
      g.w = 2 * g.d.rh;
      return g.stem(g.d.rh, 0, A, "lb");
    }
    g.wide(0.4);
    g.stem(g.m, 0, A);
    g.bar(g.w * 0.1, g.m, A - g.d.rv);
    g.bar(0, g.w, g.lo);
  },
  m: (g) => {
    g.wide(0.78);
    g.stem(g.l, 0, g.d.xHeight, "lb");
    g.arch(g.l, g.m, g.d.xHeight);
    g.arch(g.m, g.r, g.d.xHeight);
  },
  n: (g) => {
    g.wide(0.5);
    g.stem(g.l, 0, g.d.xHeight, "lb");
    g.arch(g.l, g.r, g.d.xHeight);
  },
  o: (g) => {
    g.wide(0.51);
    g.bowl(0, -0.008, g.w, g.d.xHeight + 0.008);
  },
  p: (g) => {
    g.wide(0.5);
    g.stem(g.l, -g.d.descender, g.d.xHeight, "lb");
    g.bowl(0, 0, g.w, g.d.xHeight);
  },
  q: (g) => {
    g.wide(0.5);
    g.stem(g.r, -g.d.descender, g.d.xHeight, "b");
    g.bowl(0, 0, g.w, g.d.xHeight);
  },
  r: (g) => {
    g.wide(0.31);
    const X = g.d.xHeight;
    g.stem(g.l, 0, X, "lb");
    const rx = g.w - g.l;
    const ry = X * 0.34;
    g.arc(g.l + rx, X - g.d.rv - ry, rx, ry, 180, 82);
    if (g.d.serif > 0) g.dot(g.w, X - g.d.rv * 1.6, 0.85);
  },
  s: (g) => {
    g.wide(0.42);
    ess(g, g.d.xHeight);
  },
  t: (g) => {
    g.wide(0.3);
    const stem = g.w * 0.42;
    const rx = g.w - stem;
    const ry = Math.min(rx, g.d.xHeight * 0.3);
    const top = g.d.xHeight + (g.d.ascender - g.d.xHeight) * 0.62;
    g.stem(stem, ry + g.d.rv, top);
    g.arc(stem + rx, ry + g.d.rv, rx, ry, 180, 272);
    g.bar(0, g.w * 0.98, g.x);
  },
  u: (g) => {
    g.wide(0.5);
    const rx = (g.r - g.l) / 2;
    const ry = Math.min(rx * 1.05, g.d.xHeight * 0.55);
    g.stem(g.l, ry + g.d.rv - 0.01, g.d.xHeight, "l");
    g.arc(g.m, ry + g.d.rv, rx, ry, 180, 360);
    g.stem(g.r, 0, g.d.xHeight, g.d.serif > 0 ? "l" : "");
    g.serif(g.r, 0, 1, "right");
  },
  v: (g) => {
    g.wide(0.48);
    vee(g, 0, g.w, g.d.xHeight);
  },
  w: (g) => {
    g.wide(0.72);
    vee(g, 0, g.m + g.d.rh * 0.5, g.d.xHeight);
    vee(g, g.m - g.d.rh * 0.5, g.w, g.d.xHeight);
  },
  x: (g) => {
    g.wide(0.47);
    cross(g, g.d.xHeight);
  },
  y: (g) => {
    g.wide(0.48);
    const X = g.d.xHeight;
    const D = -g.d.descender;
    if (g.d.tailedY) {
      const rx = (g.r - g.l) / 2;
      const ry = Math.min(rx, X * 0.55);
      g.stem(g.l, ry + g.d.rv - 0.01, X, "l");
      g.arc(g.m, ry + g.d.rv, rx, ry, 180, 360);
      const hook = g.d.descender * 0.62;
      g.stem(g.r, D + g.d.rv + hook, X, "l");
      return g.arc(g.m, D + g.d.rv + hook, rx, hook, 0, -150);
    }
    g.diagonal(g.l, X, g.m, 0);
    const run = (g.r - g.m) / X;
    g.diagonal(g.r, X, g.m + run * D * 0.9, D * 0.9);
    g.bar(g.m + run * D - g.w * 0.22, g.m + run * D + g.d.rh * 0.5, D * 0.9 + g.d.rv);
    g.serif(g.l, X, -1);
    g.serif(g.r, X, -1);
  },
  z: (g) => {
    g.wide(0.43);
    zed(g, g.d.xHeight);
  },
};

const upper: Record<string, Recipe> = {
  A: (g) => {
    g.wide(0.62);
    const C = g.d.capHeight;
    g.diagonal(g.l, 0, g.m, C);
    g.diagonal(g.r, 0, g.m, C);
    g.bar(g.w * 0.24, g.w * 0.76, C * 0.32);
    g.serif(g.l, 0, 1);
    g.serif(g.r, 0, 1);
  },
  B: (g) => {
    g.wide(0.54);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "");
    lobe(g, C * 0.52 - g.d.rv, C, g.w * 0.93);
    lobe(g, 0, C * 0.52 + g.d.rv, g.w);
    g.serif(g.l, 0, 1, "left");
    g.serif(g.l, C, -1, "left");
  },
  C: (g) => {
    g.wide(0.62);
    const C = g.d.capHeight;
    g.arc(g.m, C / 2, g.m - g.l, C / 2 - g.d.rv, g.d.aperture, 360 - g.d.aperture);
  },
  D: (g) => {
    g.wide(0.62);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C);
    lobe(g, 0, C, g.w);
    g.serif(g.l, 0, 1, "left");
    g.serif(g.l, C, -1, "left");
  },
  E: (g) => {
    g.wide(0.5);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "");
    g.bar(g.l, g.w * 0.96, g.c);
    g.bar(g.l, g.w * 0.88, C * 0.52);
    g.bar(g.l, g.w, g.lo);
    g.serif(g.l, 0, 1, "left");
    g.serif(g.l, C, -1, "left");
  },
  F: (g) => {
    g.wide(0.47);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "b");
    g.bar(g.l, g.w, g.c);
    g.bar(g.l, g.w * 0.9, C * 0.5);
    g.serif(g.l, C, -1, "left");
  },
  G: (g) => {
    g.wide(0.65);
    const C = g.d.capHeight;
    g.arc(g.m, C / 2, g.m - g.l, C / 2 - g.d.rv, g.d.aperture, 322);
    g.stem(g.r, C * 0.08, C * 0.45);
    g.bar(g.m + g.d.rh * 0.4, g.r + g.d.rh, C * 0.45 - g.d.rv);
  },
  H: (g) => {
    g.wide(0.61);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "bt");
    g.stem(g.r, 0, C, "bt");
    g.bar(g.l, g.r, C * 0.51);
  },
  I: (g) => {
    const C = g.d.capHeight;
    if (g.d.capISlab) {
      g.wide(0.3);
      g.bar(0, g.w, g.c);
      g.bar(0, g.w, g.lo);
      return g.stem(g.m, 0, C);
    }
    g.w = 2 * g.d.rh;
    g.stem(g.d.rh, 0, C, "bt");
  },
  J: (g) => {
    g.wide(0.38);
    const C = g.d.capHeight;
    const rx = (g.r - g.l) / 2;
    const ry = Math.min(C * 0.3, rx * 1.3);
    g.stem(g.r, ry + g.d.rv - 0.01, C, "t");
    g.arc(g.m, ry + g.d.rv, rx, ry, 0, -165);
  },
  K: (g) => {
    g.wide(0.57);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "bt");
    g.diagonal(g.l, C * 0.34, g.r - g.d.rh * 0.2, C);
    g.diagonal(g.l + (g.r - g.l) * 0.3, C * 0.55, g.r, 0);
    g.serif(g.r - g.d.rh * 0.2, C, -1);
    g.serif(g.r, 0, 1);
  },
  L: (g) => {
    g.wide(0.46);
    g.stem(g.l, 0, g.d.capHeight, "t");
    g.bar(g.l, g.w, g.lo);
    g.serif(g.l, 0, 1, "left");
  },
  M: (g) => {
    g.wide(0.72);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "b");
    g.stem(g.r, 0, C, "b");
    g.diagonal(g.l + g.d.rh * 0.3, C, g.m, C * 0.12);
    g.diagonal(g.r - g.d.rh * 0.3, C, g.m, C * 0.12);
    g.serif(g.l, C, -1, "left");
    g.serif(g.r, C, -1, "right");
  },
  N: (g) => {
    g.wide(0.62);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "b");
    g.stem(g.r, 0, C, "t");
    g.diagonal(g.l + g.d.rh * 0.3, C, g.r - g.d.rh * 0.3, 0);
    g.serif(g.l, C, -1, "left");
  },
  O: (g) => {
    g.wide(0.68);
    g.bowl(0, -0.01, g.w, g.d.capHeight + 0.01);
  },
  P: (g) => {
    g.wide(0.52);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "b");
    lobe(g, C * 0.43, C, g.w);
    g.serif(g.l, C, -1, "left");
  },
  Q: (g) => {
    g.wide(0.68);
    const C = g.d.capHeight;
    g.bowl(0, -0.01, g.w, C + 0.01);
    g.path([[g.w * 0.56, C * 0.22], [g.w * 0.95, -C * 0.1]]);
  },
  R: (g) => {
    g.wide(0.55);
    const C = g.d.capHeight;
    g.stem(g.l, 0, C, "b");
    lobe(g, C * 0.46, C, g.w * 0.94);
    g.diagonal(g.w * 0.48, C * 0.47, g.r, 0);
    g.serif(g.l, C, -1, "left");
    g.serif(g.r, 0, 1, "right");
  },
  S: (g) => {
    g.wide(0.52);
    ess(g, g.d.capHeight);
  },
  T: (g) => {
    g.wide(0.56);
    g.stem(g.m, 0, g.d.capHeight, "b");
    g.bar(0, g.w, g.c);
    droppedSerifs(g, g.c);
  },
  U: (g) => {
    g.wide(0.6);
    const C = g.d.capHeight;
    const rx = (g.r - g.l) / 2;
    const ry = Math.min(C * 0.4, rx * 1.15);
    g.stem(g.l, ry + g.d.rv - 0.01, C, "t");
    g.stem(g.r, ry + g.d.rv - 0.01, C, "t");
    g.arc(g.m, ry + g.d.rv, rx, ry, 180, 360);
  },
  V: (g) => {
    g.wide(0.61);
    vee(g, 0, g.w, g.d.capHeight);
  },
  W: (g) => {
    g.wide(0.9);
    vee(g, 0, g.m + g.d.rh * 0.5, g.d.capHeight);
    vee(g, g.m - g.d.rh * 0.5, g.w, g.d.capHeight);
  },
  X: (g) => {
    g.wide(0.58);
    cross(g, g.d.capHeight);
  },
  Y: (g) => {
    g.wide(0.57);
    const C = g.d.capHeight;
    g.stem(g.m, 0, C * 0.46, "b");
    g.diagonal(g.l, C, g.m, C * 0.42);
    g.diagonal(g.r, C, g.m, C * 0.42);
    g.serif(g.l, C, -1);
    g.serif(g.r, C, -1);
  },
  Z: (g) => {
    g.wide(0.56);
    zed(g, g.d.capHeight);
  },
};

const digits: Record<string, Recipe> = {
  "0": (g) => {
    g.wide(0.49);
    const C = g.d.capHeight;
    g.bowl(0, -0.008, g.w, C + 0.008);
    if (g.d.zeroMark === "slash") g.path([[g.w * 0.3, C * 0.3], [g.w * 0.7, C * 0.7]]);
    if (g.d.zeroMark === "dot") g.dot(g.m, C / 2);
  },
  "1": (g) => {
    g.wide(g.d.oneFoot ? 0.42 : 0.3);
    const C = g.d.capHeight;
    const stem = g.d.oneFoot ? g.m + g.d.rh * 0.2 : g.r;
    g.stem(stem, 0, C);
    if (g.d.oneFlag) g.path([[stem, g.c], [stem - g.w * 0.46, C * 0.76]]);
    else g.bar(stem - g.w * 0.4, stem, g.c);
    if (g.d.oneFoot) g.bar(0, g.w, g.lo);
  },
  "2": (g) => {
    g.wide(0.47);
    const C = g.d.capHeight;
    const ry = C * 0.28;
    const rx = g.r - g.m;
    const top = C - g.d.rv - ry;
    g.path([...g.arcPoints(g.m, top, rx, ry, 165, -35), [g.l + g.d.rh * 0.2, g.lo]]);
    g.bar(0, g.w, g.lo);
  },
  "3": (g) => {
    g.wide(0.46);
    const C = g.d.capHeight;
    const waist = C * 0.53;
    const upperRy = (C - waist - g.d.rv) / 2;
    const lowerRy = (waist - g.d.rv) / 2;
    g.arc(g.m * 0.96, waist + upperRy, (g.r - g.m) * 0.92, upperRy, 150, -90);
    g.arc(g.m * 0.96, g.d.rv + lowerRy, g.r - g.m * 0.96, lowerRy, 90, -150);
    g.bar(g.w * 0.3, g.m, waist);
  },
  "4": (g) => {
    g.wide(0.5);
    const C = g.d.capHeight;
    const stem = g.w * 0.72;
    const bar = C * 0.27;
    if (g.d.openFour) {
      g.diagonal(g.w * 0.3, C, g.w * 0.1, bar);
      g.stem(stem, 0, C * 0.7);
    } else {
      g.stem(stem, 0, C, "b");
      g.path([[stem - g.d.rh * 0.2, g.c], [g.d.rh * 0.8, bar]]);
    }
    g.bar(0, g.w, bar);
  },
  "5": (g) => {
    g.wide(0.46);
    const C = g.d.capHeight;
    const ry = C * 0.32 - g.d.rv;
    g.bar(g.w * 0.12, g.w * 0.92, g.c);
    g.stem(g.l + g.w * 0.08, C * 0.5, C);
    const y = ry + g.d.rv;
    g.path([
      [g.l + g.w * 0.08, C * 0.53],
      ...g.arcPoints(g.m * 0.95, y, g.r - g.m * 0.95, ry, 110, -150),
    ]);
  },
  "6": (g) => {
    g.wide(0.49);
    six(g);
  },
  "7": (g) => {
    g.wide(0.46);
    const C = g.d.capHeight;
    g.bar(0, g.w, g.c);
    g.diagonal(g.r - g.d.rh * 0.2, g.c, g.w * 0.3, 0);
    if (g.d.barredSeven) g.bar(g.w * 0.25, g.w * 0.85, C * 0.5);
  },
  "8": (g) => {
    g.wide(0.49);
    const C = g.d.capHeight;
    const waist = C * 0.53;
    g.bowl(g.w * 0.05, waist - g.d.rv, g.w * 0.95, C + 0.008);
    g.bowl(0, -0.008, g.w, waist + g.d.rv);
  },
  "9": (g) => {
    g.wide(0.49);
    g.turnAround(g.m, g.d.capHeight / 2);
    six(g);
  },
};

const signs: Record<string, Recipe> = {
  ".": (g) => point(g, (x) => g.dot(x, g.d.rh)),
  ",": (g) =>
    point(g, (x) => {
      g.dot(x, g.d.rh);
      g.path([[x + g.d.rh * 0.4, g.d.rh], [x - g.d.rh * 0.4, -g.d.descender * 0.55]]);
    }),
  ":": (g) =>
    point(g, (x) => {
      g.dot(x, g.d.rh);
      g.dot(x, g.d.xHeight - g.d.rh);
    }),
  ";": (g) =>
    point(g, (x) => {
      g.dot(x, g.d.xHeight - g.d.rh);
      g.dot(x, g.d.rh);
      g.path([[x + g.d.rh * 0.4, g.d.rh], [x - g.d.rh * 0.4, -g.d.descender * 0.55]]);
    }),
  "!": (g) =>
    point(g, (x) => {
      g.dot(x, g.d.rh);
      g.stem(x, g.d.rh * 2 + 0.1, g.d.capHeight);
    }),
  "?": (g) => {
    g.wide(0.38);
    const C = g.d.capHeight;
    const ry = C * 0.24;
    const rx = g.r - g.m;
    g.path([...g.arcPoints(g.m, C - g.d.rv - ry, rx, ry, 160, -45), [g.m, C * 0.36], [
      g.m,
      C * 0.24,
    ]]);
    g.dot(g.m, g.d.rh);
  },
  "-": (g) => {
    g.wide(0.24);
    g.bar(0, g.w, g.d.xHeight * 0.48);
  },
  "_": (g) => {
    g.wide(0.46);
    g.bar(0, g.w, -g.d.descender * 0.4);
  },
  "+": (g) => {
    g.wide(0.5);
    const y = g.d.capHeight * 0.46;
    const arm = g.w / 2;
    g.bar(0, g.w, y);
    g.box(g.m - g.d.rv, y - arm, g.m + g.d.rv, y + arm);
  },
  "=": (g) => {
    g.wide(0.5);
    g.bar(0, g.w, g.d.capHeight * 0.34);
    g.bar(0, g.w, g.d.capHeight * 0.58);
  },
  "×": (g) => {
    g.wide(0.42);
    const y = g.d.capHeight * 0.46;
    const arm = g.w / 2 - g.d.rh * 0.6;
    g.path([[g.m - arm, y - arm], [g.m + arm, y + arm]]);
    g.path([[g.m - arm, y + arm], [g.m + arm, y - arm]]);
  },
  "÷": (g) => {
    g.wide(0.5);
    const y = g.d.capHeight * 0.46;
    g.bar(0, g.w, y);
    g.dot(g.m, y + 0.18);
    g.dot(g.m, y - 0.18);
  },
  "/": (g) => {
    g.wide(0.36);
    g.diagonal(g.l * 0.6, -0.08, g.w - g.l * 0.6, g.d.ascender);
  },
  "%": (g) => {
    g.wide(0.76);
    const C = g.d.capHeight;
    g.bowl(0, C * 0.5, g.w * 0.4, C);
    g.bowl(g.w * 0.6, 0, g.w, C * 0.5);
    g.path([[g.w * 0.26, 0], [g.w * 0.74, C]]);
  },
  "$": (g) => {
    g.wide(0.48);
    ess(g, g.d.capHeight);
    g.box(g.m - g.d.rv * 0.8, -0.09, g.m + g.d.rv * 0.8, g.d.capHeight + 0.09);
  },
  "(": (g) => {
    g.wide(0.2);
    g.arc(g.w + 0.12, 0.27, g.w + 0.12 - g.l, 0.56, 128, 232);
  },
  ")": (g) => {
    g.wide(0.2);
    g.arc(-0.12, 0.27, g.w + 0.12 - g.l, 0.56, 52, -52);
  },
  "'": (g) => point(g, (x) => g.stem(x, g.d.capHeight * 0.66, g.d.capHeight)),
  '"': (g) => {
    g.wide(0.22);
    g.stem(g.l, g.d.capHeight * 0.66, g.d.capHeight);
    g.stem(g.r, g.d.capHeight * 0.66, g.d.capHeight);
  },
  "#": (g) => {
    g.wide(0.56);
    const C = g.d.capHeight;
    g.diagonal(g.w * 0.24, 0, g.w * 0.4, C);
    g.diagonal(g.w * 0.6, 0, g.w * 0.76, C);
    g.bar(0, g.w, C * 0.34);
    g.bar(0, g.w, C * 0.66);
  },
  "<": (g) => {
    g.wide(0.46);
    const y = g.d.capHeight * 0.46;
    g.path([[g.r, y + 0.22], [g.l, y], [g.r, y - 0.22]]);
  },
  ">": (g) => {
    g.wide(0.46);
    const y = g.d.capHeight * 0.46;
    g.path([[g.l, y + 0.22], [g.r, y], [g.l, y - 0.22]]);
  },
  "&": (g) => {
    g.wide(0.62);
    const C = g.d.capHeight;
    g.bowl(g.w * 0.18, C * 0.52, g.w * 0.62, C);
    g.arc(g.w * 0.38, C * 0.29, g.w * 0.38 - g.l, C * 0.29 - g.d.rv, 80, 330);
    g.path([[g.w * 0.27, C * 0.62], [g.w * 0.94, g.lo]]);
    g.path([[g.w * 0.7, C * 0.16], [g.w * 0.88, C * 0.44]]);
  },
};

function point(g: GlyphBuilder, draw: (x: number) => void): void {
  g.w = Math.max(g.d.rh * 2.3, 0.09);
  draw(g.w / 2);
}

function stemWithDot(g: GlyphBuilder, foot: number): void {
  const X = g.d.xHeight;
  if (g.d.slabI) {
    g.wide(0.4);
    g.stem(g.m, foot, X);
    g.bar(g.w * 0.1, g.m, g.x);
    g.bar(0, g.w, g.lo);
    return g.dot(g.m, X + 0.19);
  }
  g.w = 2 * g.d.rh;
  g.stem(g.d.rh, foot, X, "lb");
  g.dot(g.d.rh, X + 0.19);
}

/** s, S and $: two opposite arcs that share the waist. */
function ess(g: GlyphBuilder, top: number): void {
  const waist = top * 0.52;
  const upperRy = (top - waist - g.d.rv) / 2;
  const lowerRy = (waist - g.d.rv) / 2;
  const rx = g.r - g.m;
  g.path([
    ...g.arcPoints(g.m, waist + upperRy, rx * 0.95, upperRy, g.d.aperture - 8, 250),
    ...g.arcPoints(g.m, g.d.rv + lowerRy, rx, lowerRy, 70, -188 + g.d.aperture),
  ]);
}

function vee(g: GlyphBuilder, left: number, right: number, top: number): void {
  const [a, b] = [left + g.d.rh, right - g.d.rh];
  g.diagonal(a, top, (a + b) / 2, 0);
  g.diagonal(b, top, (a + b) / 2, 0);
  g.serif(a, top, -1);
  g.serif(b, top, -1);
}

function cross(g: GlyphBuilder, top: number): void {
  g.diagonal(g.l, 0, g.r, top);
  g.diagonal(g.l, top, g.r, 0);
  for (const x of [g.l, g.r]) {
    g.serif(x, 0, 1);
    g.serif(x, top, -1);
  }
}

function zed(g: GlyphBuilder, top: number): void {
  g.bar(0, g.w, top - g.d.rv);
  g.bar(0, g.w, g.lo);
  g.diagonal(g.l + g.d.rh * 0.4, g.lo, g.r - g.d.rh * 0.4, top - g.d.rv);
}

/** The half bowl of B, D, P, R to the right of the stem, between two outline heights. */
function lobe(g: GlyphBuilder, bottom: number, top: number, right: number): void {
  const ry = (top - bottom) / 2 - g.d.rv;
  const straight = Math.max(g.l, Math.min(right * 0.5, right - g.d.rh - ry * 0.9));
  const y = (top + bottom) / 2;
  g.bar(g.l, straight + 0.005, top - g.d.rv);
  g.bar(g.l, straight + 0.005, bottom + g.d.rv);
  g.arc(straight, y, right - g.d.rh - straight, ry, 90, -90);
}

/** The small strokes that hang from the ends of a T's bar. */
function droppedSerifs(g: GlyphBuilder, y: number): void {
  if (g.d.serif <= 0) return;
  const drop = g.d.serif * 1.2;
  g.box(0, y - drop, g.d.serifHeight, y);
  g.box(g.w - g.d.serifHeight, y - drop, g.w, y);
}

/** 6, and turned around 9. */
function six(g: GlyphBuilder): void {
  const C = g.d.capHeight;
  const ry = C * 0.31;
  g.bowl(0, -0.008, g.w, 2 * ry);
  if (g.d.curvedNine) {
    g.arc(g.m * 1.1, ry, g.m * 1.1 - g.l, C - g.d.rv - ry, 180, 75);
  } else {
    g.path([[g.l + g.d.rh * 0.1, ry], [g.l + g.w * 0.12, C * 0.6], [g.w * 0.72, g.c]]);
  }
}

/** All recipes by character. */
export const glyphRecipes: Readonly<Record<string, Recipe>> = {
  ...lower,
  ...upper,
  ...digits,
  ...signs,
};
