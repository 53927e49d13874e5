// node run.mjs <the module>: two instances of it, as two programs would be.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';

const module = await WebAssembly.compile(await readFile(process.argv[2]));
const isWasi = WebAssembly.Module.imports(module).some(({ module }) => module.startsWith('wasi'));

async function seed() {
    const wasi = new WASI({ version: 'preview1' });
    const instance = await WebAssembly.instantiate(module, isWasi ? wasi.getImportObject() : {});
    if (isWasi) wasi.initialize(instance);
    const { attempts, waiting, seed } = instance.exports;
    assert.equal(attempts(), 3);
    assert.equal(waiting(), 2);
    const seeds = [seed(), seed()];
    assert.notEqual(seeds[0], seeds[1]);
    return seeds[0];
}

const [one, other] = [await seed(), await seed()];
// Without WASI the standard library has no entropy: the documentation says so.
assert.equal(one === other, !isWasi);
console.log(`${isWasi ? 'with' : 'without'} WASI: all as it must be`);
