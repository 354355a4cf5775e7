import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The Live API serves the built pages and answers /v1 on the same origin; the
// development server forwards to it so that the code sees one origin there too.
const liveApi = "http://127.0.0.1:8080";

export default defineConfig({
  plugins: [react()],
  base: "/",
  build: {
    target: "es2022",
    sourcemap: false,
    // What a part of the pages consists of, for the server to name it before it is asked for.
    manifest: "manifest.json",
    // hls.js is one chunk of about 570 kB that only the watch page loads.
    chunkSizeWarningLimit: 700,
  },
  server: {
    proxy: { "/v1": liveApi },
  },
});
