// Reads {databases: {name: {table: {column: type}}}, queries: [{file, database, text}]} from standard input and prints
// what Microsoft's language service says of each query: [{file, code, line, column, message}].
'use strict';
const fs = require('fs');
const path = require('path');
const vm = require('vm');

const home = path.join(process.argv[2], 'node_modules', '@kusto', 'language-service-next');
for (const script of ['bridge.min.js', 'Kusto.Language.Bridge.min.js']) {
  vm.runInThisContext(fs.readFileSync(path.join(home, script), 'utf8'), { filename: script });
}
const { GlobalState, KustoCode, Symbols } = Kusto.Language;

function state(name, tables) {
  const symbols = Object.entries(tables).map(([table, columns]) => {
    const schema = Object.entries(columns).map(([column, type]) => `['${column}']:${type}`);
    return new Symbols.TableSymbol.$ctor7(table, `(${schema.join(', ')})`, null);
  });
  return GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.ctor(name, symbols));
}

function complaints(query, globals) {
  const found = KustoCode.ParseAndAnalyze(query.text, globals).GetDiagnostics();
  return Array.from({ length: found.Count }, (_, place) => {
    const { Code: code, Message: message, Start: start } = found.getItem(place);
    const before = query.text.slice(0, start).split('\n');
    return { file: query.file, code, line: before.length, column: before.at(-1).length + 1, message };
  });
}

const { databases, queries } = JSON.parse(fs.readFileSync(0, 'utf8'));
const states = Object.fromEntries(Object.entries(databases).map(([name, tables]) => [name, state(name, tables)]));
process.stdout.write(JSON.stringify(queries.flatMap((query) => complaints(query, states[query.database]))));
