import { Command } from 'commander';
import { convertHeads } from '../gpu-worker/heads/convert.js';
import { printLine } from './context.js';

/** `longhaul heads convert` */
export function headsCommand(): Command {
  const heads = new Command('heads').description('retaining heads of APB');
  heads
    .command('convert')
    .description(
      "convert the authors' heads (a .bin file of torch.save) to safetensors; nothing in the file is executed",
    )
    .argument('<in>', 'the .bin file')
    .argument('<out>', 'the safetensors file to write')
    .action(async (input: string, output: string) => {
      const { layers, width, keyValueHeads, type, bytes, skipped } = await convertHeads(input, output);
      printLine(
        `${output}: ${layers} layers, ${keyValueHeads} KV heads, width ${width}, ${type}, ${bytes} bytes` +
          (skipped > 0 ? `; ${skipped} other tensors left out` : ''),
      );
    });
  return heads;
}
