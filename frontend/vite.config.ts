import { defineConfig } from "vitest/config";

// One script and one stylesheet in the first load: the exported HTML file puts both into itself, and
// needs no others. What needs a server comes later, in a script of its own (src/views/live.ts).
export default defineConfig({
  base: "./",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../src/pellucid/web/dist",
    emptyOutDir: true,
    target: "es2022",
    cssCodeSplit: false,
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0, // a data: address would break the content security policy
    license: { fileName: "LICENSES.md" },
  },
  // A file that needs a document asks for it in its first line: making one takes longer than most tests.
  test: { environment: "node", pool: "threads", include: ["tests/unit/**/*.test.{ts,tsx}"] },
});
