import { readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

/** Gateway to which the development server forwards requests. */
const GATEWAY = process.env.C3_GATEWAY ?? "http://127.0.0.1:7300";

export default defineConfig({
  base: "/console/",
  esbuild: { jsx: "automatic", jsxImportSource: "preact", legalComments: "none" },
  build: {
    target: "es2022",
    // The policy of the gateway allows no inline data other than images.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 300,
  },
  plugins: [vocabulary(), licenses()],
  server: {
    proxy: Object.fromEntries(
      ["/v1", "/console/session", "/metrics", "/livez", "/readyz", "/docs", "/openapi.json"].map((path) => [path, { target: GATEWAY }]),
    ),
  },
});

/** Provides the module `virtual:vocabulary`: the tokens of the default model, in the order of their ids. */
function vocabulary(): Plugin {
  const name = "virtual:vocabulary";
  return {
    name: "vocabulary",
    resolveId: (id) => (id === name ? `\0${name}` : null),
    load(id) {
      if (id !== `\0${name}`) return null;
      const file = join(import.meta.dirname, "../../models/c3-mini/tokenizer.json");
      const tokens: [string, number][] = Object.entries(JSON.parse(readFileSync(file, "utf8")).model.vocab);
      tokens.sort((a, b) => a[1] - b[1]);
      // No token contains a line feed: tokens are written in the byte alphabet of GPT-2.
      const text = JSON.stringify(tokens.map(([token]) => token).join("\n"));
      return `export default ${text}.split("\\n");`;
    },
  };
}

/** Writes `licenses.txt` with the licence of each package of which the bundle contains code. */
function licenses(): Plugin {
  return {
    name: "licenses",
    apply: "build",
    generateBundle(_, bundle) {
      const folders = new Set<string>();
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== "chunk") continue;
        for (const id of chunk.moduleIds) {
          const found = /^\0?(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(id);
          if (found) folders.add(found[1]!);
        }
      }
      const notices = [...folders].map((folder) => {
        const { name, version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
        return `${name} ${version} (${license})\n\n${readFileSync(join(folder, "LICENSE"), "utf8").trim()}\n`;
      });
      const text = `The console contains code of these packages.\n\n${notices.sort().join(`\n${"-".repeat(80)}\n\n`)}`;
      this.emitFile({ type: "asset", fileName: "licenses.txt", source: text });
    },
  };
}
