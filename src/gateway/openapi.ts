import { z } from 'zod';
import { VERSION } from '../platform/version.js';
import { operations, type Operation } from './operations.js';
import { responses } from './schemas.js';

/** The OpenAPI 3.1 document of the gateway, from the table of its operations. */
export function openApi(): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const operation of operations) {
    (paths[operation.path] ??= {})[operation.method.toLowerCase()] = describe(operation);
  }
  const schemas = Object.fromEntries(
    Object.entries(responses).map(([name, schema]) => [name, schemaOf(schema)]),
  );
  return {
    openapi: '3.1.0',
    info: {
      title: 'longhaul gateway',
      version: VERSION,
      description: "OpenAI's Files and Batch API, answered by longhaul.",
    },
    security: [{ key: [] }],
    paths,
    components: { schemas, securitySchemes: { key: { type: 'http', scheme: 'bearer' } } },
  };
}

function describe({ name, summary, of, query, body, form, idempotent, response }: Operation): object {
  const string = { type: 'string' };
  const parameters = [
    ...(of === undefined ? [] : [{ name: 'id', in: 'path', required: true, schema: string }]),
    ...(query === undefined ? [] : queryParameters(schemaOf(query))),
    ...(idempotent === undefined ? [] : [{ name: 'Idempotency-Key', in: 'header', schema: string }]),
  ];
  const reference = (to: string) => ({ schema: { $ref: `#/components/schemas/${to}` } });
  const content =
    response === 'bytes'
      ? { 'application/octet-stream': { schema: { type: 'string', format: 'binary' } } }
      : { 'application/json': reference(response) };
  const requestBody =
    form !== undefined
      ? { 'multipart/form-data': { schema: withFile(schemaOf(form)) } }
      : body !== undefined
        ? { 'application/json': { schema: schemaOf(body) } }
        : undefined;
  return {
    operationId: name,
    summary,
    ...(parameters.length > 0 && { parameters }),
    ...(requestBody && { requestBody: { required: true, content: requestBody } }),
    responses: {
      200: { description: 'done', content },
      default: { description: 'refused', content: { 'application/json': reference('Error') } },
    },
  };
}

interface ObjectSchema {
  properties?: Record<string, object>;
  required?: string[];
}

/** What a caller sends: fields with defaults may be left out. */
function schemaOf(schema: z.ZodType): ObjectSchema {
  const { $schema: _dialect, ...rest } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return rest as ObjectSchema;
}

function queryParameters({ properties = {}, required = [] }: ObjectSchema): object[] {
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema,
  }));
}

function withFile(schema: ObjectSchema): ObjectSchema {
  return {
    ...schema,
    properties: { file: { type: 'string', format: 'binary' }, ...schema.properties },
    required: ['file', ...(schema.required ?? [])],
  };
}
