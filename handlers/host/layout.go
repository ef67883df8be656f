package host

import "strings"

// Layout is the table of paths and unit names that differ between distribution families. Handlers read it and never
// ask which distribution they run on.
type Layout struct {
	Family string // "debian" or "redhat"

	ApacheUnit, ApacheCtl, ApacheConf, ApacheUser, ApacheLogDir string
	ApacheEnabledDir                                            string   // where our include of the vhost directory goes: read last, so packaged sites stay the default
	ApacheTLSSites                                              []string // files of the packaged TLS site; the first that exists counts
	SystemCert, SystemKey                                       string   // the pair that the distribution makes for itself
	NginxUnit, NginxBin, NginxConf                              string
	MySQLUnit, MySQLSocket, MySQLDataDir                        string
	MySQLConf                                                   string // the main file
	MySQLConfDir                                                string // drop-ins, read in alphabetical order, the last one wins
	MySQLDaemon                                                 string
	PostgreSQL                                                  []PostgreSQLLayout // where clusters may be; the first that has any counts
	MongoDBUnit, MongoDBUser                                    string
	SSHUnit                                                     string
	MdadmConf                                                   string
}

// Debian is the layout of Debian 12 and its relatives.
var Debian = Layout{
	Family:     "debian",
	ApacheUnit: "apache2.service", ApacheCtl: "apache2ctl", ApacheConf: "/etc/apache2/apache2.conf", ApacheUser: "www-data",
	ApacheLogDir: "/var/log/apache2", ApacheEnabledDir: "/etc/apache2/sites-enabled",
	ApacheTLSSites: []string{"/etc/apache2/sites-available/default-ssl", "/etc/apache2/sites-available/default-ssl.conf"},
	SystemCert:     "/etc/ssl/certs/ssl-cert-snakeoil.pem", SystemKey: "/etc/ssl/private/ssl-cert-snakeoil.key",
	NginxUnit: "nginx.service", NginxBin: "nginx", NginxConf: "/etc/nginx/nginx.conf",
	MySQLUnit: "mariadb.service", MySQLSocket: "/run/mysqld/mysqld.sock", MySQLDataDir: "/var/lib/mysql",
	MySQLConf: "/etc/mysql/my.cnf", MySQLConfDir: "/etc/mysql/mariadb.conf.d", MySQLDaemon: "/usr/sbin/mariadbd",
	PostgreSQL: []PostgreSQLLayout{
		{Dir: "/etc/postgresql", Conf: "/etc/postgresql/*/main", Data: "/var/lib/postgresql/*/main", Bin: "/usr/lib/postgresql/*/bin", Unit: "postgresql@*-main.service"},
	},
	MongoDBUnit: "mongod.service", MongoDBUser: "mongodb",
	SSHUnit:   "ssh.service",
	MdadmConf: "/etc/mdadm/mdadm.conf",
}

// RedHat is the layout of RHEL 9 and its relatives.
var RedHat = Layout{
	Family:     "redhat",
	ApacheUnit: "httpd.service", ApacheCtl: "httpd", // Red Hat's apachectl takes no arguments for httpd
	ApacheConf: "/etc/httpd/conf/httpd.conf", ApacheUser: "apache",
	ApacheLogDir: "/var/log/httpd", ApacheEnabledDir: "/etc/httpd/conf.d",
	ApacheTLSSites: []string{"/etc/httpd/conf.d/ssl.conf"},
	SystemCert:     "/etc/pki/tls/certs/localhost.crt", SystemKey: "/etc/pki/tls/private/localhost.key",
	NginxUnit: "nginx.service", NginxBin: "nginx", NginxConf: "/etc/nginx/nginx.conf",
	MySQLUnit: "mariadb.service", MySQLSocket: "/var/lib/mysql/mysql.sock", MySQLDataDir: "/var/lib/mysql",
	MySQLConf: "/etc/my.cnf", MySQLConfDir: "/etc/my.cnf.d", MySQLDaemon: "/usr/libexec/mariadbd",
	PostgreSQL: []PostgreSQLLayout{
		{Dir: "/etc/postgresql", Conf: "/etc/postgresql/*/main", Data: "/var/lib/pgsql/*/data", Bin: "/usr/pgsql-*/bin", Unit: "postgresql-*.service"}, // as Scalarizr moved it
		{Dir: "/var/lib/pgsql", Conf: "/var/lib/pgsql/*/data", Data: "/var/lib/pgsql/*/data", Bin: "/usr/pgsql-*/bin", Unit: "postgresql-*.service"},   // PostgreSQL's own packages
		{Conf: "/var/lib/pgsql/data", Data: "/var/lib/pgsql/data", Bin: "/usr/bin", Unit: "postgresql.service"},                                        // Red Hat's
	},
	MongoDBUnit: "mongod.service", MongoDBUser: "mongod",
	SSHUnit:   "sshd.service",
	MdadmConf: "/etc/mdadm.conf",
}

// DetectLayout reads os-release; what names no Red Hat relative counts as Debian.
func DetectLayout(h *Host) *Layout {
	data, _ := h.ReadFile("/etc/os-release")
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key != "ID" && key != "ID_LIKE" {
			continue
		}
		for word := range strings.FieldsSeq(strings.Trim(value, `"'`)) {
			switch word {
			case "rhel", "fedora", "centos":
				return &RedHat
			}
		}
	}
	return &Debian
}
