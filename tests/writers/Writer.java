// Runs statements on files, and says of each what came of it. stdin has a block for each file: its path, statements, a line each, and an
// empty line; so has stdout: the version of SQLite, an answer to each, and an empty line.
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;

public class Writer {
    public static void main(String[] arguments) throws Exception {
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String path = lines.readLine(); path != null; path = lines.readLine()) {
            try (Connection connection = DriverManager.getConnection("jdbc:sqlite:" + path);
                    Statement statement = connection.createStatement()) {
                System.out.println(connection.getMetaData().getDatabaseProductVersion());
                write(statement, lines);
            }
            System.out.println();
        }
    }

    private static void write(Statement statement, BufferedReader lines) throws IOException {
        for (String sql = lines.readLine(); sql != null && !sql.isEmpty(); sql = lines.readLine()) {
            try {
                System.out.println(statement.execute(sql) + " " + statement.getUpdateCount());
            } catch (SQLException error) {
                System.out.println(error.getMessage().replace('\n', ' '));
            }
        }
    }
}
