// Builds viewer.js and LICENSES.txt, from main.mjs beside them and the packages locked here:
//     make viewers && node tests/viewers/build.mjs [FOLDER]
import { build } from 'esbuild';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const sources = here('../../esd_splat/formats/viewer');
const folder = process.argv[2] ?? sources;

const notice = (name) => {
    const read = (file) => readFileSync(here(`node_modules/${name}/${file}`), 'utf8').trim();
    return `${name} ${JSON.parse(read('package.json')).version}\n\n${read('LICENSE')}\n`;
};
const notices = ['@playcanvas/supersplat-viewer', 'playcanvas'].map(notice).join('\n----\n\n');
writeFileSync(join(folder, 'LICENSES.txt'), notices);

await build({
    entryPoints: [join(sources, 'main.mjs')],
    nodePaths: [here('node_modules')],
    outfile: join(folder, 'viewer.js'),
    bundle: true,
    external: ['node:worker_threads'], // the engine's workers ask for it where there is no `self`
    minify: true,
    format: 'esm',
    target: 'es2022',
    legalComments: 'none',
    banner: { js: `/*\n${notices}*/` }, // every page that we write is a copy
    logLevel: 'warning'
});
