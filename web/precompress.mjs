// Compresses what Vite has built, once and as well as can be: the server then
// sends a file as it is, and spends nothing on it at each request.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";

// Shorter files do not shrink by a packet.
const worthwhile = 1024;
const folder = join(import.meta.dirname, "dist");

for (const file of readdirSync(folder, { recursive: true, withFileTypes: true })) {
  if (!file.isFile() || !/\.(js|css|html|svg)$/.test(file.name)) continue;
  const path = join(file.parentPath, file.name);
  const data = readFileSync(path);
  if (data.length < worthwhile) continue;
  writeFileSync(`${path}.gz`, gzipSync(data, { level: 9 }));
  writeFileSync(`${path}.br`, brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_SIZE_HINT]: data.length } }));
}
