// What the documentation says about JDBC.  Arguments: URL, user.
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.StringJoiner;

public class JdbcCalls {
	static int pid(Connection connection) throws SQLException {
		try (Statement statement = connection.createStatement();
			 ResultSet rows = statement.executeQuery("SELECT pg_backend_pid()")) {
			rows.next();
			return rows.getInt(1);
		}
	}

	public static void main(String[] args) throws Exception {
		Connection connection = DriverManager.getConnection(args[0], args[1], "");

		try (PreparedStatement call = connection.prepareStatement(
				"SELECT * FROM gpt_generate(?, 5, n => ?::int, model => ?, seed => 1)")) {
			call.setString(1, "My printer");
			call.setInt(2, 3);
			call.setString(3, "demo");
			StringJoiner texts = new StringJoiner("|");
			try (ResultSet rows = call.executeQuery()) {
				while (rows.next())
					texts.add(rows.getString(1));
			}
			System.out.println("rows: " + texts);
		}

		try (PreparedStatement call = connection.prepareStatement(
				"SELECT gpt_generate(repeat('My printer ', 5000), 5, 'demo', options => ?::jsonb)")) {
			call.setString(1, "{\"on_error\": \"null\"}");
			try (ResultSet rows = call.executeQuery()) {
				rows.next();
				System.out.println("null: " + (rows.getString(1) == null ? "None" : rows.getString(1)));
			}
			System.out.println("warning: " + call.getWarnings().getMessage());
		}

		try (PreparedStatement call = connection.prepareStatement("SELECT gpt_generate('x', ?, 'demo')")) {
			call.setInt(1, 0);
			call.executeQuery();
		} catch (SQLException error) {
			System.out.println("error: " + error.getSQLState());
		}

		connection.setAutoCommit(false);
		try (PreparedStatement call = connection.prepareStatement(
				"SELECT (s).piece FROM (SELECT gpt_stream(?, 5, 'demo') AS s) AS q")) {
			call.setFetchSize(1);
			call.setString(1, "My printer");
			StringBuilder text = new StringBuilder();
			try (ResultSet rows = call.executeQuery()) {
				while (rows.next())
					text.append(rows.getString(1));
			}
			System.out.println("stream: " + text);
		}
		connection.rollback();
		connection.setAutoCommit(true);

		int pid = pid(connection);
		Statement slow = connection.createStatement();
		Thread canceler = new Thread(() -> {
			try (Connection other = DriverManager.getConnection(args[0], args[1], "");
				 PreparedStatement look = other.prepareStatement(
						"SELECT count(*) FROM gpt_stat_requests WHERE pid = ?")) {
				look.setInt(1, pid);
				for (boolean running = false; !running; Thread.sleep(10))
					try (ResultSet rows = look.executeQuery()) {
						rows.next();
						running = rows.getInt(1) > 0;
					}
				slow.cancel();
			} catch (Exception error) {
				error.printStackTrace();
			}
		});
		canceler.start();
		try {
			slow.executeQuery("SELECT gpt_generate('Once', 8000, 'slow')");
		} catch (SQLException error) {
			System.out.println("cancel: " + error.getSQLState());
		}
		canceler.join();
		connection.close();
	}
}
