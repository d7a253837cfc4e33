import { Command } from 'commander';
import { convertHeads } from '../gpu-worker/heads/convert.js';
import { printJson, printLine } from './context.js';

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
    .option('--json', 'print what was written as JSON')
    .action(async (input: string, output: string, { json }: { json?: boolean }) => {
      const converted = await convertHeads(input, output);
      if (json === true) {
        printJson({ output, ...converted });
        return;
      }
      const { layers, width, keyValueHeads, type, bytes, skipped } = converted;
      printLine(
        `${output}: ${layers} layers, ${keyValueHeads} KV heads, width ${width}, ${type}, ${bytes} bytes` +
          (skipped > 0 ? `; ${skipped} other tensors left out` : ''),
      );
    });
  return heads;
}
