import { format } from 'prettier';
import { expect, test } from 'vitest';
import { openApi } from '../../src/gateway/openapi.js';
import { checkId, operations } from '../../src/gateway/operations.js';
import { drawId, outputFileId } from '../../src/gateway/records.js';
import { createBatchBody } from '../../src/gateway/schemas.js';

test('the OpenAPI document is current: make docs', async () => {
  const text = await format(JSON.stringify(openApi()), { parser: 'json', printWidth: 110 });
  await expect(text).toMatchFileSnapshot('../../docs/openapi.json');
});

test('the OpenAPI document has every operation once, and every reference in it leads somewhere', () => {
  const text = JSON.stringify(openApi());
  const { components } = openApi() as { components: { schemas: Record<string, object> } };
  const ids = [...text.matchAll(/"operationId":"(\w+)"/g)].map(([, id]) => id);
  expect(ids.sort()).toEqual(operations.map(({ name }) => name).sort());
  const used = [...text.matchAll(/#\/components\/schemas\/(\w+)/g)].map(([, name = '']) => name);
  expect(Object.keys(components.schemas).sort()).toEqual([...new Set(used)].sort());
});

test('ids are in byte order the newest first', () => {
  const times = [0, 1, 1_764_000_000_000, 1_764_000_000_001, 2 ** 47];
  const ids = times.map((time) => drawId('batch_', time));
  expect([...ids].sort()).toEqual(ids.reverse());
});

test('what can be no id never becomes part of a key', () => {
  const id = drawId('batch_');
  expect(checkId('batch', id)).toBe(id);
  expect(checkId('file', outputFileId(id, 'error'))).toMatch(/^file-[0-9a-f]{32}-error$/);
  for (const bad of ['', '../keys', 'batch_', `${id}/x`, id.toUpperCase(), `${id}\n`, 'file-1'])
    expect(() => checkId('batch', bad), bad).toThrow('there is no batch');
});

test('a completion window is any time; nothing else is taken than what the API has', () => {
  const body = { input_file_id: drawId('file-'), endpoint: '/v1/chat/completions', completion_window: '90m' };
  expect(createBatchBody.safeParse(body).success).toBe(true);
  for (const more of [{ completion_window: '2w' }, { completion_window: '0h' }, { priority: 1 }])
    expect(createBatchBody.safeParse({ ...body, ...more }).success, JSON.stringify(more)).toBe(false);
});
