// Runs statements, a JSON array on stdin, on the file that is named, and says of each what came of it.
const Database = require("better-sqlite3");
const { readFileSync } = require("node:fs");

const database = new Database(process.argv[2]);
if (process.argv[3] === "version") {
  console.log(database.prepare("SELECT sqlite_version() AS v").get().v);
  process.exit();
}
for (const sql of JSON.parse(readFileSync(0, "utf8"))) {
  let said;
  try {
    const statement = database.prepare(sql);
    if (statement.reader) {
      said = JSON.stringify(statement.all());
    } else {
      const { changes, lastInsertRowid } = statement.run();
      // Where a foreign key fails a statement at its end, whether its rowid stays depends on there being any trigger.
      const gave = sql.startsWith("INSERT") && !sql.includes("ON CONFLICT") && changes > 0;
      said = JSON.stringify(gave ? { changes, lastInsertRowid } : { changes });
    }
  } catch (error) {
    said = error.message;
  }
  console.log(said);
}
