// The Markdown renderer of the public CDS Hooks sandbox: react-markdown's stack with remark-gfm and rehype-raw.
//
//   node render.mjs FOLDER      FOLDER has node_modules; each line of the input is a JSON string of Markdown, each
//                               line of the output a JSON string of its HTML, in the same order
//
// What react-markdown does beyond this (it empties addresses of unknown schemes) is left out: stricter for the cards.

import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const folder = createRequire(join(process.argv[2], 'package.json'));
const load = async (name) => (await import(pathToFileURL(folder.resolve(name)))).default;
const { unified } = await import(pathToFileURL(folder.resolve('unified')));

const renderer = unified()
  .use(await load('remark-parse'))
  .use(await load('remark-gfm'))
  .use(await load('remark-rehype'), { allowDangerousHtml: true })
  .use(await load('rehype-raw'))
  .use(await load('rehype-stringify'))
  .freeze();

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity })) {
  if (!process.stdout.write(`${JSON.stringify(String(renderer.processSync(JSON.parse(line))))}\n`)) {
    await new Promise((resolve) => process.stdout.once('drain', resolve));
  }
}
