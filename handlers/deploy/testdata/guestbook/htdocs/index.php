<?php
// A guest book, the smallest app that needs its database: GET /?add=TEXT writes a line, every answer lists all lines.
// The environment names the database: MYSQL_HOST, MYSQL_USER, MYSQL_PASSWORD, MYSQL_DATABASE.
header('Content-Type: text/plain; charset=utf-8');
header('X-Content-Type-Options: nosniff'); // lines are text, whatever somebody writes into them
header('Cache-Control: no-store');
mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);

try {
    $db = new mysqli(
        getenv('MYSQL_HOST') ?: 'localhost',
        getenv('MYSQL_USER') ?: '',
        getenv('MYSQL_PASSWORD') ?: '',
        getenv('MYSQL_DATABASE') ?: ''
    );
    $db->set_charset('utf8mb4');
    $db->query('CREATE TABLE IF NOT EXISTS guestbook (id INT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(255) NOT NULL)');
    $add = $_GET['add'] ?? '';
    if (is_string($add) && $add !== '') {
        $insert = $db->prepare('INSERT INTO guestbook (line) VALUES (?)');
        $line = mb_strcut_utf8(preg_replace('/[[:cntrl:]]+/', ' ', $add), 255);
        $insert->bind_param('s', $line);
        $insert->execute();
    }
    foreach ($db->query('SELECT line FROM guestbook ORDER BY id') as $row) {
        echo htmlspecialchars($row['line'], ENT_NOQUOTES | ENT_SUBSTITUTE, 'UTF-8'), "\n";
    }
} catch (mysqli_sql_exception $e) {
    http_response_code(503);
    error_log('guestbook: ' . $e->getMessage());
    echo "the database does not answer\n";
}

// At most $max characters of valid UTF-8, without needing the mbstring extension.
function mb_strcut_utf8(string $text, int $max): string
{
    return preg_match('/^.{0,' . $max . '}/us', $text, $head) ? $head[0] : '';
}
